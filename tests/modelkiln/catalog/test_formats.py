"""Formats and presets: what the catalog's say, and what is answered to wrong files."""

from pathlib import Path

import pytest

from modelkiln.catalog.catalog import Catalog, load_catalog
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY

FOLDER = REPOSITORY / "catalog"
CATALOG = load_catalog([FOLDER])
REDUCED = ("onnx-fp16", "onnx-int8", "onnx-int8-dynamic", "onnx-fp8")


def add(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_formats_of_lower_precision_replace_float32_and_have_gates() -> None:
    assert {one for one in CATALOG.formats if one.startswith("onnx")} == {"onnx-fp32", *REDUCED}
    for name in REDUCED:
        one = CATALOG.formats[name]
        half = name == "onnx-fp16"
        assert (one.replaces, one.environment) == ("onnx-fp32", "quantize")
        assert one.options["mode"] == name.removeprefix("onnx-")
        assert one.gates == {
            "snr_db": 40.0 if half else 20.0,
            "mask_iou": 0.995 if half else 0.98,
            "cosine": {"cls_token": 0.999},
        }
        assert one.weights == (0.5 if half else 0.3)
        assert ("calibrate" in one.stages) == (name != "onnx-int8-dynamic")
    base = CATALOG.formats["onnx-fp32"]
    assert (base.replaces, base.environment, base.parameters) == ("", "", {})


def test_fp8_is_int8_with_what_the_type_needs() -> None:
    int8, fp8 = CATALOG.formats["onnx-int8"], CATALOG.formats["onnx-fp8"]
    assert set(fp8.parameters) == set(int8.parameters)
    assert (int8.opset, fp8.opset) == (0, 21)
    assert int8.session == {}
    assert fp8.session == {"session.disable_quant_qdq": "1"}
    assert int8.options["layout"] == int8.parameters["layout"].default == "onnxruntime"
    assert fp8.options["layout"] == fp8.parameters["layout"].default == "explicit"
    with pytest.raises(UsageError) as caught:
        fp8.parameters["calib_method"].parse("entropy")
    assert "448" in caught.value.why
    assert int8.parameters["calib_method"].parse("entropy") == "entropy"


def test_a_parameter_of_several_formats_means_the_same_in_all() -> None:
    for name in REDUCED:
        for one in CATALOG.formats[name].parameters.values():
            same = CATALOG.formats["onnx-int8"].parameters[one.name]
            assert (type(one), one.token, one.stages) == (type(same), same.token, same.stages)
            assert one.help


def test_no_token_can_be_read_as_two_parameters() -> None:
    for name in REDUCED:
        model = CATALOG.models["sam2.1_hiera_tiny"]
        contract = CATALOG.contracts["tracker"]
        parameters = CATALOG.format_for(name, model, contract).parameters
        for one in parameters.values():
            for token in filter(None, one.forms.split(", ")):
                token = token.replace("NUMBER", "7").replace("DIGEST", "0" * 12)
                found = [n for n, p in parameters.items() if p.read_token(token) is not None]
                assert found == [one.name], token


def test_the_graphs_to_quantize_are_the_contract_s() -> None:
    model = CATALOG.models["sam2.1_hiera_tiny"]
    found = {
        name: CATALOG.format_for("onnx-int8", model, CATALOG.contracts[name]).parameters[
            "graphs_to_quantize"
        ]
        for name in ("image", "tracker", "features")
    }
    assert {name: (one.default, one.choices) for name, one in found.items()} == {
        "image": ("encoder", ("encoder",)),
        "tracker": ("image_encoder", ("image_encoder", "memory_attention")),
        "features": ("features", ("features",)),
    }
    with pytest.raises(UsageError) as caught:
        found["tracker"].parse("image_encoder,mask_decoder")
    assert "keeps its precision in tracker" in caught.value.why


def test_contracts_that_others_bind_by_index_have_no_integers() -> None:
    formats = {
        stem: tuple(name for name in one.formats if name.startswith("onnx-"))
        for stem, one in CATALOG.contracts.items()
    }
    half = ("treedect", "treedect-features", "tracker-ex", "tracker-ex-sam2.0", "tracker-legacy")
    for stem in half:
        assert formats[stem] == ("onnx-fp32", "onnx-fp16")
    for stem in ("image", "tracker", "tracker-sam2.0", "features", "features-reg4"):
        assert formats[stem] == ("onnx-fp32", *REDUCED)


def test_presets_ask_for_as_many_pictures_as_the_catalog_has() -> None:
    shipped = list((FOLDER / "calibration").glob("*.jpg"))
    assert CATALOG.calibration == FOLDER / "calibration"
    assert len(shipped) >= 16
    for model in CATALOG.models.values():
        for contract in CATALOG.contracts_of(model):
            for name in {"onnx-int8", "onnx-fp8"}.intersection(contract.formats):
                fitted = CATALOG.format_for(name, model, contract)
                assert fitted.parameters["calib_size"].default == len(shipped)


def with_preset(folder: Path, text: str) -> Catalog:
    add(folder, "presets/mine.toml", text)
    return load_catalog([FOLDER, folder])


def test_a_preset_is_for_the_models_that_it_names(tmp_path: Path) -> None:
    text = 'models = ["sam2.1_*"]\n[onnx-int8]\ncalib_size = 4\nuse_random_calib = true\n'
    catalog = with_preset(tmp_path, text + 'op_types_to_quantize = "conv,matmul"\n')
    contract = catalog.contracts["tracker"]

    def defaults(model: str, name: str) -> list[object]:
        fitted = catalog.format_for(name, catalog.models[model], contract).parameters
        names = ("calib_size", "use_random_calib", "op_types_to_quantize", "calib_method")
        return [fitted[one].default for one in names]

    assert defaults("sam2.1_hiera_tiny", "onnx-int8") == [4, True, "MatMul,Conv", "max"]
    assert defaults("sam2_hiera_tiny", "onnx-int8") == [16, False, "MatMul", "max"]
    assert defaults("sam2.1_hiera_tiny", "onnx-fp8") == [16, False, "MatMul", "max"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[onnx-int8]\ncalib_size = 16\n", "`models` must be an array"),
        ('models = ["sam3*"]\n', "'sam3*'"),
        ('models = ["sam2*"]\n[onnx-int4]\ncalib_size = 16\n', "no format 'onnx-int4'"),
        ('models = ["sam2*"]\n[onnx-int8]\ncalib_sizes = 16\n', "no parameter 'calib_sizes'"),
        ('models = ["sam2*"]\n[onnx-int8]\ncalib_size = 0\n', "calib_size cannot be '0'"),
        ('models = ["sam2*"]\n[onnx-fp8]\ncalib_method = "entropy"\n', "448"),
        ('models = ["sam2*"]\n[onnx-fp16]\nlayout = "explicit"\n', "no parameter 'layout'"),
        ('models = ["sam2*"]\nonnx-int8 = 3\n', "`onnx-int8` must be a table"),
        ("models = [", "cannot be read as TOML"),
    ],
)
def test_a_wrong_preset_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_preset(tmp_path, text)
    assert said in str(caught.value) and "mine.toml" in str(caught.value)


GOOD = 'summary = "a"\nstages = ["export", "convert"]\nruntimes = []\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`summary` must be a string"),
        (GOOD + 'weights = "half"\n', "`weights` must be a share"),
        (GOOD + "weights = 0\n", "`weights` must be a share"),
        (GOOD + 'opset = "21"\n', "`opset` must be an integer"),
        (GOOD + "[session]\na = 1\n", "`session` must be a table of strings"),
        (GOOD + 'tensorrt = "yes"\n', "`tensorrt` must be true, false or a list"),
        (GOOD + "tensorrt = [{}]\n", "`tensorrt` must be true, false or a list"),
        (GOOD + 'tensorrt = [{ layout = "explicit" }]\n', "mine has no parameter 'layout'"),
        ('extends = "onnx-int8"\ntensorrt = [{ dtype = "fp4" }]\n', "dtype cannot be 'fp4'"),
        (GOOD + 'replaces = "onnx-fp23"\n', "`replaces` names 'onnx-fp23'"),
        (GOOD + 'made_from = "onnx-int8@tiny"\n', "onnx-int8 has no variant 'tiny'"),
        (GOOD + "contract_parameters = 3\n", "`contract_parameters` must be a table"),
        (GOOD + 'made_from = "onnx-fp23"\n', "`made_from` of mine names 'onnx-fp23'"),
        (GOOD + 'made_from = "mine@small"\n', "made from itself: mine -> mine"),
        (
            GOOD + 'replaces = "onnx-fp32"\nmade_from = "onnx-fp16"\n',
            "in the place of `replaces`",
        ),
        (GOOD + "[unavailable]\nwhy = 3\n", "`why` must be a string"),
        (GOOD.replace('"export", ', "") + 'replaces = "onnx-fp32"\n', "stages its own begin with"),
        ('extends = "gone"\n', "gone.toml, which is not there"),
        ('extends = "mine"\n', "and so itself"),
        ('extends = "onnx-int8"\ngates = 3\n', "`gates` must be a table"),
        (GOOD + '[parameters.calib]\ndefault = 1\ntoken = "x"\nstages = []\n', "parameter calib"),
    ],
)
def test_a_wrong_format_is_named(tmp_path: Path, text: str, said: str) -> None:
    add(tmp_path, "formats/mine.toml", text)
    with pytest.raises(UsageError) as caught:
        load_catalog([FOLDER, tmp_path])
    assert said in str(caught.value) and "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('formats = ["onnx-fp32", "onnx-int4"]\n', "cannot come as 'onnx-int4'"),
        ("[quantization]\ngraphs = []\n", "does not name graphs"),
        ('[quantization]\ngraphs = ["coder"]\n', "coder"),
        ('[quantization]\ngraphs = ["encoder"]\non_request = ["encoder"]\n', "each once"),
        ("quantization = 3\n", "`quantization` must be a table"),
    ],
)
def test_a_wrong_contract_for_formats_is_named(tmp_path: Path, text: str, said: str) -> None:
    add(tmp_path, "contracts/mine.toml", f'extends = "image"\nname = "mine"\n{text}')
    with pytest.raises(UsageError) as caught:
        load_catalog([FOLDER, tmp_path])
    assert said in str(caught.value)


def test_a_contract_that_does_not_say_which_graphs_has_no_integers(tmp_path: Path) -> None:
    assert "onnx-fp16" in CATALOG.contracts["treedect"].formats
    assert not CATALOG.contracts["treedect"].quantization.graphs
    text = (FOLDER / "contracts" / "treedect.toml").read_text()
    add(tmp_path, "contracts/treedect.toml", text.replace('"onnx-fp32"', '"onnx-int8"'))
    with pytest.raises(UsageError, match="treedect cannot come as 'onnx-int8'") as caught:
        load_catalog([FOLDER, tmp_path])
    assert "quantization" in caught.value.why


@pytest.mark.parametrize(
    ("contract", "graphs"),
    [
        ("treedect", ["encoder", "decoder"]),
        ("tracker-ex", ["image_encoder", "mask_decoder", "memory_attention", "memory_encoder"]),
    ],
)
def test_fp16_takes_every_graph_whether_a_contract_names_some_or_none(
    contract: str, graphs: list[str]
) -> None:
    model = CATALOG.models["sam2.1_hiera_tiny"]
    found = CATALOG.contract(contract, model)
    assert found is not None
    fitted = CATALOG.format_for("onnx-fp16", model, found).parameters["graphs_to_quantize"]
    assert fitted.default == ",".join(graphs)


def test_a_further_catalog_has_calibration_pictures_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    assert load_catalog([FOLDER, tmp_path]).calibration == tmp_path / "calibration"
