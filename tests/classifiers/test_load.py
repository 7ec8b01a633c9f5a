"""Classifiers by spec: seeded weights, checkpoints that fit or are refused, and files of the user's own."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import explanation_alignment as ea
from explanation_alignment.classifiers.classifier import Classifier, weights_digest
from explanation_alignment.classifiers.digit_network import DigitNetwork
from explanation_alignment.classifiers.load import load_classifier, load_weights, seed_of
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError

OWN_FILE = """
import torch
from explanation_alignment import Classifier, Geometry, Preprocessing

EXECUTED = "at import"

def build():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    preprocessing = Preprocessing((3, 8, 8), Geometry(resize=9, crop=(8, 8)))
    return Classifier(module, preprocessing, ("a", "b", "c"), name="own", family="cnn", device="cpu")

def number():
    return 3

def broken():
    raise ZeroDivisionError("inside build")

def wants_more(size):
    return size
"""
RAISED_AT = OWN_FILE[: OWN_FILE.index("raise ")].count("\n") + 1


def mnist(weights: str = "random", **arguments: Any) -> Classifier:
    return load_classifier("paper:mnist", weights, device="cpu", **arguments)


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DigitNetwork().state_dict()


def equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(OWN_FILE)
    return path


class TestPublished:
    def test_what_it_is(self) -> None:
        classifier = mnist()
        assert isinstance(classifier.module, DigitNetwork)
        assert (classifier.name, classifier.spec, classifier.family) == ("mnist", "paper:mnist", "cnn")
        assert classifier.class_names == tuple("0123456789")
        assert classifier.preprocessing.input_size == (3, 28, 28)
        # 3*32*9+32, 32*64*9+64, 9216*128+128, 128*10+10
        assert classifier.parameters == 896 + 18_496 + 1_179_776 + 1_290
        assert mnist(name="mine").name == "mine"

    def test_has_no_weights_of_its_own(self) -> None:
        with pytest.raises(UsageError, match="paper:mnist has no published weights; give 'random' or a checkpoint"):
            load_classifier("paper:mnist")

    def test_unknown_ones(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'mnits'; did you mean 'mnist'\?"):
            load_classifier("paper:mnits")


class TestRandomWeights:
    def test_the_same_spec_is_the_same_model(self) -> None:
        torch.manual_seed(1)
        one = mnist().weights_digest()
        torch.manual_seed(2)
        assert mnist().weights_digest() == one

    def test_differ_by_seed(self) -> None:
        digests = {
            weights: mnist(weights).weights_digest() for weights in ("random", "random:0", "random:1", "random:-1")
        }
        assert len(set(digests.values())) == 4
        assert mnist("random:1").weights_digest() == digests["random:1"]

    def test_are_spread_as_torch_initialises(self) -> None:
        fc1 = mnist("random:5").module.fc1.weight
        bound = 1 / math.sqrt(9216)
        assert 0.99 * bound < fc1.abs().max() <= bound
        assert abs(fc1.mean()) < 0.01 * bound

    def test_no_global_generator_moves(self) -> None:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        mnist("random:3")
        assert torch.equal(torch.get_rng_state(), before)

    def test_no_gpu_is_seeded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seeded: list[int] = []
        monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
        mnist("random:3")
        assert seeded == []

    def test_are_drawn_on_the_cpu_wherever_a_factory_put_its_module(self, tmp_path: Path) -> None:
        path = tmp_path / "m.py"
        path.write_text(
            OWN_FILE
            + """
class Elsewhere(torch.nn.Sequential):
    on_the_cpu = False
    def cpu(self):
        self.on_the_cpu = True
        return super().cpu()
    def reset_parameters(self):
        assert self.on_the_cpu

def elsewhere():
    module = Elsewhere(*build().module)
    return Classifier(module, Preprocessing((3, 8, 8)), device="cpu")
"""
        )
        assert load_classifier(f"file:{path}:elsewhere", "random").module.on_the_cpu

    @pytest.mark.parametrize("weights", ["random:", "random:x", "random:1.5", "random:1 2", "random:-", "random:--1"])
    def test_seeds_that_are_none(self, weights: str) -> None:
        with pytest.raises(UsageError, match=f"weights {re.escape(repr(weights))}: expected random:SEED"):
            mnist(weights)

    @pytest.mark.parametrize("name", ["random.pth", "random-walk.pth", "randomised:3.pth"])
    def test_a_checkpoint_may_be_called_random(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save(state(4), name)
        assert equal_states(mnist(name).module.state_dict(), state(4))

    def test_a_factory_s_weights_are_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "m.py"
        path.write_text(
            OWN_FILE.replace("    preprocessing =", "    torch.nn.init.ones_(module[0].weight)\n    preprocessing =")
        )
        default = load_classifier(f"file:{path}:build", device="cpu")
        assert (default.module[0].weight == 1).all()
        one, other = (load_classifier(f"file:{path}:build", f"random:{seed}", device="cpu") for seed in (0, 1))
        assert not (one.module[0].weight == 1).any()
        assert one.weights_digest() != other.weights_digest()

    @pytest.mark.parametrize(
        "part",
        ["torch.nn.MultiheadAttention(4, 2)", "torch.nn.ParameterList([torch.zeros(3, 3)])"],
        ids=["attention", "bare parameter"],
    )
    def test_no_trained_weight_survives(self, tmp_path: Path, part: str) -> None:
        """Every parameter is drawn anew, or the classifier says that it cannot."""
        path = tmp_path / "m.py"
        trained = f"    module.append({part})\n    [torch.nn.init.constant_(p, 0.625) for p in module.parameters()]\n"
        path.write_text(OWN_FILE.replace("    preprocessing =", f"{trained}    preprocessing ="))
        try:
            classifier = load_classifier(f"file:{path}:build", "random", device="cpu")
        except ModelError:
            return
        kept = [name for name, parameter in classifier.module.named_parameters() if (parameter == 0.625).all()]
        assert kept == []


class TestCheckpoints:
    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
    def test_round_trip(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        save_file(state(1), path) if path.suffix == ".safetensors" else torch.save(state(1), path)
        classifier = mnist(str(path))
        assert equal_states(classifier.module.state_dict(), state(1))
        assert classifier.weights_digest() != mnist().weights_digest()
        images = torch.rand((2, 3, 28, 28), generator=torch.Generator().manual_seed(0))
        expected = DigitNetwork()
        expected.load_state_dict(state(1))
        with torch.no_grad(), classifier.explaining() as module:
            assert torch.equal(module(images), expected.eval()(images))

    def test_a_state_dict_in_a_larger_record(self, tmp_path: Path) -> None:
        torch.save({"state_dict": state(2), "epoch": 3}, tmp_path / "w.pth")
        assert equal_states(mnist(str(tmp_path / "w.pth")).module.state_dict(), state(2))

    @pytest.mark.parametrize("wrappers", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.module."])
    def test_names_of_wrappers_are_taken_off(self, tmp_path: Path, wrappers: str) -> None:
        torch.save({f"{wrappers}{name}": tensor for name, tensor in state(2).items()}, tmp_path / "w.pth")
        assert equal_states(mnist(str(tmp_path / "w.pth")).module.state_dict(), state(2))

    @pytest.mark.parametrize("wrappers", ["", "module.", "_orig_mod.module."])
    def test_a_network_whose_own_part_is_called_as_a_wrapper(self, tmp_path: Path, wrappers: str) -> None:
        class Holder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = DigitNetwork()

        holder = Holder()
        own = {f"module.{name}": tensor for name, tensor in state(3).items()}
        save_file({f"{wrappers}{name}": tensor for name, tensor in own.items()}, tmp_path / "w.safetensors")
        load_weights(holder, tmp_path / "w.safetensors")
        assert equal_states(holder.state_dict(), own)
        del own["module.fc2.bias"]
        torch.save(own, tmp_path / "short.pth")
        with pytest.raises(ModelError, match=r"Holder: missing module\.fc2\.bias$"):
            load_weights(holder, tmp_path / "short.pth")

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    def test_a_git_lfs_pointer_says_what_it_is(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        with pytest.raises(ModelError, match=r"not a readable checkpoint \(it is a Git LFS pointer; .*git lfs pull\)"):
            mnist(str(tmp_path / name))

    def test_text_is_no_checkpoint_and_not_refused_for_what_it_holds(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_text("<!DOCTYPE html>\n<p>Not found</p>\n")
        with pytest.raises(
            ModelError, match=r"w\.pth: not a readable checkpoint \(it is no file that torch.save wrote\)"
        ):
            mnist(str(tmp_path / "w.pth"))

    def test_no_file(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.pth", tmp_path):
            words = r"(no file .*|it is a folder); expected 'default', 'random', 'random:SEED' or a path"
            with pytest.raises(ModelError, match=words):
                mnist(str(path))

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    def test_mismatches_are_named(self, tmp_path: Path, name: str) -> None:
        wrong = state()
        wrong["fc2.weight"] = torch.zeros(7, 128)
        wrong["head.bias"] = wrong.pop("fc2.bias")
        path = tmp_path / name
        save_file(wrong, path) if path.suffix == ".safetensors" else torch.save(wrong, path)
        module = DigitNetwork()
        before = weights_digest(module)
        with pytest.raises(ModelError, match="does not fit DigitNetwork") as caught:
            load_weights(module, path)
        message = str(caught.value)
        assert str(path) in message
        for words in ("missing fc2.bias", "unexpected head.bias", "fc2.weight is (7, 128), expected (10, 128)"):
            assert words in message
        assert weights_digest(module) == before

    def test_long_lists_of_mismatches_are_cut(self, tmp_path: Path) -> None:
        torch.save({}, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"missing conv1.weight; (.*; ){3}and 4 more$"):
            mnist(str(tmp_path / "w.pth"))

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"\0" * 100, b"certainly no checkpoint\nat all\n", b"\x80\x02", b"PK\x03\x04" + b"\0" * 50],
        ids=["empty", "zeros", "text", "pickle's first bytes", "zip's first bytes"],
    )
    def test_damaged_files(self, tmp_path: Path, name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelError, match=re.escape(str(path))) as caught:
            mnist(str(path))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    @pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
    def test_files_cut_short(self, tmp_path: Path, name: str, share: float) -> None:
        path = tmp_path / name
        save_file(state(), path) if path.suffix == ".safetensors" else torch.save(state(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelError, match=re.escape(str(path))):
            mnist(str(path))

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(torch.zeros(3), id="a tensor"),
            pytest.param([torch.zeros(3)], id="a list"),
            pytest.param(None, id="nothing"),
            pytest.param({"state_dict": 5}, id="no state dict"),
            pytest.param({**state(), "fc2.bias": 3}, id="a number for a tensor"),
            pytest.param({**state(), "fc2.bias": [0.0] * 10}, id="a list for a tensor"),
            pytest.param({**state(), 5: torch.zeros(1)}, id="a number for a name"),
        ],
    )
    def test_other_contents(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=re.escape(str(tmp_path / "w.pth"))):
            mnist(str(tmp_path / "w.pth"))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_no_code_is_run(self, tmp_path: Path, zipped: bool) -> None:
        marker = tmp_path / "executed"

        class Touch:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (marker,))

        content = {**state(), "extra": Touch()}
        path = tmp_path / "w.pth"
        torch.save(content, path) if zipped else path.write_bytes(pickle.dumps({"state_dict": Touch()}))
        with pytest.raises(ModelError, match=r"w\.pth: refused, it holds more than tensors; save a state dict"):
            mnist(str(path))
        assert not marker.exists()

    def test_a_whole_pickled_module_is_refused(self, tmp_path: Path) -> None:
        torch.save(DigitNetwork(), tmp_path / "w.pth")
        with pytest.raises(ModelError, match="refused, it holds more than tensors"):
            mnist(str(tmp_path / "w.pth"))


class TestFiles:
    def test_a_good_one(self, own_file: Path) -> None:
        spec = f"file:{own_file}:build"
        classifier = ea.load_classifier(spec, device="cpu")
        assert isinstance(classifier, ea.Classifier)
        assert (classifier.name, classifier.spec, classifier.family) == ("own", spec, "cnn")
        assert classifier.class_names == ("a", "b", "c")
        assert classifier.preprocessing.geometry == ea.Geometry(resize=9, crop=(8, 8))
        assert classifier.module(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
        assert load_classifier(spec, device="cpu", name="other").name == "other"

    def test_is_the_same_model_every_time(self, own_file: Path) -> None:
        torch.manual_seed(1)
        one = load_classifier(f"file:{own_file}:build", device="cpu").weights_digest()
        torch.manual_seed(2)
        assert load_classifier(f"file:{own_file}:build", device="cpu").weights_digest() == one

    def test_takes_a_checkpoint(self, own_file: Path) -> None:
        spec, path = f"file:{own_file}:build", own_file.with_name("w.safetensors")
        random = load_classifier(spec, "random:1", device="cpu")
        save_file(random.module.state_dict(), path)
        assert load_classifier(spec, str(path), device="cpu").weights_digest() == random.weights_digest()

    def test_keeps_the_factory_s_own_settings_unless_others_are_asked_for(self, own_file: Path) -> None:
        """A device with an index that ``auto`` never gives tells whose it is."""
        settings = 'device=torch.device("cpu", 0), precision="bf16", channels_last=True)'
        own_file.write_text(OWN_FILE.replace('device="cpu")', settings))
        spec = f"file:{own_file}:build"
        own = load_classifier(spec)
        assert (own.precision, own.channels_last, own.device) == ("bf16", True, torch.device("cpu", 0))
        other = load_classifier(spec, device="cpu", precision="fp32")
        assert (other.precision, other.channels_last, other.device) == ("fp32", True, torch.device("cpu"))

    def test_a_file_may_define_dataclasses(self, own_file: Path) -> None:
        own_file.write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@dataclass\nclass Settings:\n    width: int = 4\n" + OWN_FILE
        )
        assert load_classifier(f"file:{own_file}:build", device="cpu").name == "own"

    @pytest.mark.parametrize(
        ("factory", "error", "message"),
        [
            ("number", ModelError, r"number\(\) returned int, expected ea.Classifier"),
            ("broken", ModelError, rf"ZeroDivisionError: inside build \(my_model\.py, line {RAISED_AT}\)"),
            ("wants_more", ModelError, "TypeError: .*missing 1 required positional argument"),
            ("EXECUTED", ModelError, "TypeError: 'str' object is not callable"),
            ("biuld", UnknownNameError, r"unknown function in .*my_model.py 'biuld'; did you mean 'build'\?"),
        ],
    )
    def test_bad_factories(self, own_file: Path, factory: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            load_classifier(f"file:{own_file}:{factory}", device="cpu")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("def build(:", "SyntaxError"),
            ("import no_such_package_here", "ModuleNotFoundError: .*no_such_package_here"),
            ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ],
    )
    def test_bad_files(self, own_file: Path, source: str, message: str) -> None:
        own_file.write_text(source)
        with pytest.raises(ModelError, match=f"classifier 'file:.*my_model.py:build': {message}"):
            load_classifier(f"file:{own_file}:build")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no file '.*absent\.py"):
            load_classifier(f"file:{tmp_path / 'absent.py'}:build")

    @pytest.mark.parametrize("rest", ["model.py", "model.txt:build", ":build", "model"])
    def test_specs_that_cannot_be_read(self, rest: str) -> None:
        with pytest.raises(UsageError, match=re.escape(f"classifier 'file:{rest}': expected file:PATH.py:FACTORY")):
            load_classifier(f"file:{rest}")


class TestSpecs:
    @pytest.mark.parametrize("spec", ["", "mnist", "paper:", ":"])
    def test_no_kind_or_no_name(self, spec: str) -> None:
        with pytest.raises(UsageError, match=f"classifier {spec!r}: expected KIND:NAME, such as"):
            load_classifier(spec)

    def test_unknown_kinds(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown kind of classifier 'papers'; did you mean 'paper'\?"):
            load_classifier("papers:mnist")
        with pytest.raises(UnknownNameError, match=r"unknown kind of classifier 'x'; known: .*file.*paper"):
            load_classifier("x:mnist")

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", ""])
    def test_devices_that_are_not_there(self, device: str) -> None:
        message = f"device {device!r} cannot be used here; choose auto, cpu or cuda"
        with pytest.raises(UsageError, match=re.escape(message)):
            load_classifier("paper:mnist", "random", device=device)

    @pytest.mark.parametrize("device", [None, "auto"])
    def test_the_device_is_chosen(self, device: str | None) -> None:
        classifier = load_classifier("paper:mnist", "random", device=device)
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert classifier.device.type == expected
        assert {parameter.device.type for parameter in classifier.module.parameters()} == {expected}

    def test_seeds_are_frozen(self) -> None:
        # First 8 bytes of `printf %s paper:mnist | sha256sum`, halved.
        assert seed_of("paper:mnist") == 0x54F4AC9B38836393
        assert 0 <= seed_of("") < 2**63
