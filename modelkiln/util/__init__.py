"""What a program needs of its machine: files, digests, locks, processes, the console."""
