# The front door. Every target is one line over `invoke`; `.venv/bin/invoke --list` shows all tasks.
# FLAGS are handed on: make sam2-onnx FLAGS="--weights random --jobs 2"

INVOKE := .venv/bin/invoke
FLAGS ?=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test lint clean \
	sam2-onnx sam2-fp16 sam2-int8 sam2-fp8 sam2-trt sam2-tracker dinov2-onnx dinov2-int8

help: ## List these targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

setup: ## Make .venv, the host environment (the others do this by themselves)
	@sh requirements/bootstrap.sh

quickstart: setup ## Build and verify one model, then segment a photograph with it
	@$(INVOKE) quickstart $(FLAGS)

test: setup ## Run all tests
	@$(INVOKE) test $(FLAGS)

lint: setup ## Check the code: ruff and mypy
	@$(INVOKE) lint $(FLAGS)

clean: setup ## Remove what builds left behind, but no verified result
	@$(INVOKE) store.gc $(FLAGS)

sam2-onnx: setup ## SAM 2 and SAM 2.1 image models to ONNX
	@$(INVOKE) build 'sam2*/image/onnx-fp32,sam2*/treedect/onnx-fp32' $(FLAGS)

sam2-fp16: setup ## SAM 2 and SAM 2.1 image models and trackers in float16
	@$(INVOKE) build 'sam2*/image/onnx-fp16,sam2*/tracker/onnx-fp16' $(FLAGS)

sam2-int8: setup ## The same, quantized to INT8
	@$(INVOKE) build 'sam2*/image/onnx-int8,sam2*/tracker/onnx-int8' $(FLAGS)

sam2-fp8: setup ## The same, quantized to FP8
	@$(INVOKE) build 'sam2*/image/onnx-fp8,sam2*/tracker/onnx-fp8' $(FLAGS)

sam2-trt: setup ## SAM 2 and SAM 2.1 as TensorRT for RTX engines, built on any CPU
	@$(INVOKE) build 'sam2*/*/rtx-fp16,sam2*/*/trt-*' $(FLAGS)

sam2-tracker: setup ## SAM 2 and SAM 2.1 video trackers to ONNX
	@$(INVOKE) build 'sam2*/tracker*/onnx-fp32' $(FLAGS)

dinov2-onnx: setup ## DINOv2 to ONNX
	@$(INVOKE) build 'dinov2_*/features/onnx-fp32' $(FLAGS)

dinov2-int8: setup ## The same, quantized to INT8
	@$(INVOKE) build 'dinov2_*/features/onnx-int8' $(FLAGS)
