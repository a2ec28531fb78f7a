"""Students on a given tokenizer: its ids in what is exported, no frozen row, and nobody else's tokens."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

from stillroom.cli.main import app
from stillroom.config import CorpusConfig, ModelConfig, ObjectiveConfig, RunConfig, SourceConfig, TrainingConfig
from stillroom.corpora import Corpus, build_corpus, open_corpus, save_opening, train_tokenizer
from stillroom.files import read_json, write_json
from stillroom.labels import LabelStore
from stillroom.models import build_model, load_model
from stillroom.models.meta import llama_config
from stillroom.results.json_form import read
from stillroom.results.schema import Comparison, Evaluation
from stillroom.study.evaluations import evaluate_models
from stillroom.study.export import export_run_folder
from stillroom.study.inspect import inspect_path
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.model_inspection import ModelRequest
from stillroom.study.progress import StageDisplay
from stillroom.study.train_stage import train_into
from stillroom.teachers import LiveTeacher, ModelScores
from stillroom.training import Hooks, TrainingData, train
from stillroom.training.step import StepContext, Student, global_step
from stillroom.types import SpecialIds, UserError
from stillroom.vocabulary import num_ids
from tokenizer_kinds import LOSES

MODEL = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_positions=64)


def tokenizer_of(specials: tuple[str, ...] = ("<begin>", "<end>", "<pad>")) -> PreTrainedTokenizerFast:
    """Byte-level, special tokens last; id 2 is the letter e."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    place = alphabet.index("e")
    alphabet[2], alphabet[place] = "e", alphabet[2]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate([*alphabet, *specials])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    roles = dict(zip(("bos_token", "eos_token", "pad_token"), specials, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **roles)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, RunConfig, Path]:
    """A corpus on that tokenizer, and a run on it that is finished."""
    root = tmp_path_factory.mktemp("given")
    tokenizer_of().save_pretrained(root / "tokenizer")
    config = CorpusConfig(
        sources={"facts": SourceConfig(kind="facts"), "problems": SourceConfig(kind="problems")},
        tokenizer=str(root / "tokenizer"), sequence_length=32, train_tokens=4096, heldout_tokens=512,
    )  # fmt: skip
    corpus = build_corpus(config, root / "corpus")
    training = TrainingConfig(tokens=4096, batch_sequences=8, validate_every=0, learning_rate=1e-2)
    run = RunConfig(name="given", corpus=config, model=MODEL.model_copy(update={"tie_embeddings": False}),
                    training=training)  # fmt: skip
    (root / "run").mkdir()
    train_into(root / "run", run=run, corpus=corpus, labels=None, precision_name="fp32", hooks=Hooks())
    return corpus, run, root / "run"


def carried(folder: Path) -> list[dict[str, object]]:
    """What is said of special ids by the two files that say it."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache")
    both = [read_json(folder / name) for name in ("config.json", "generation_config.json")]
    return [{name: one.get(name) for name in names if name in one} for one in both]


def test_an_exported_student_has_its_tokenizers_ids(built) -> None:
    corpus, _, run = built
    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "use_cache": True}
    config, generation = carried(run / "model")
    assert config == ids
    assert {name: value for name, value in generation.items() if name != "use_cache"} == {
        name: value for name, value in ids.items() if name != "use_cache"
    }
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    text = corpus.tokenizer.decode(corpus.heldout.tokens([0])[0], skip_special_tokens=True)
    assert tokenizer(text)["input_ids"][0] == 256
    assert tokenizer(text)["input_ids"][1:] == corpus.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_generate_stops_at_the_end_of_a_document_and_at_no_letter(built) -> None:
    model = AutoModelForCausalLM.from_pretrained(built[2] / "model")
    sequence = [0, 1, 2, 34, 258, 257, 5, 5]  # ids that earlier versions stopped at, then the end of a document

    def scripted(module, arguments, output):
        del module, arguments
        place = scripted.done
        scripted.done += 1
        output.logits[:] = 0
        output.logits[..., -1, sequence[place]] = 50
        return output

    scripted.done = 0
    model.register_forward_hook(scripted)
    tokenizer = AutoTokenizer.from_pretrained(built[2] / "model")
    prompt = tokenizer("the", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert written.tolist() == sequence[:6]


def test_every_letters_embedding_moves(built) -> None:
    corpus, run, folder = built
    before = build_model(run.model, corpus.vocab_size, run.training.seed, special=corpus.special_ids)
    after = load_model(folder / "model")
    moved_V = (after.get_input_embeddings().weight - before.get_input_embeddings().weight).abs().amax(dim=1)
    tokens = corpus.train.tokens(range(len(corpus.train)))
    letters = np.setdiff1d(tokens, [corpus.manifest["eos"]])  # nothing is asked of the position after a document
    assert 2 in letters and (moved_V[torch.from_numpy(letters)] > 0).all()


@pytest.mark.parametrize("tied", [True, False])
def test_only_rows_that_text_holds_differ_from_a_frozen_padding_row(tied: bool, tmp_path: Path, built) -> None:
    """Where the padding id is that which closes documents, as in SmolLM2's tokenizer, no weight was ever wrong: what
    follows a closed document is another one, so nothing is asked of that position and nothing flows back to its row.
    """
    corpus, run, _ = built
    config = run.model.model_copy(update={"tie_embeddings": tied})
    trained = {}
    for frozen in (None, corpus.manifest["eos"], 34):
        model = build_model(config, corpus.vocab_size, 0).train()
        model.get_input_embeddings().padding_idx = frozen
        data = TrainingData(corpus.train, corpus.heldout)
        train(model, data, run.training, ObjectiveConfig(), tmp_path / str(frozen), precision_name="fp32")
        trained[frozen] = torch.cat([value.flatten() for value in model.state_dict().values()])
    assert torch.equal(trained[None], trained[corpus.manifest["eos"]])
    assert not torch.equal(trained[None], trained[34])


def test_a_fresh_model_freezes_nothing_and_a_pretrained_one_neither(tmp_path: Path) -> None:
    fresh = build_model(MODEL, 40, 0, special=SpecialIds(5, 6, 7))
    assert fresh.config.pad_token_id == 7 and fresh.get_input_embeddings().padding_idx is None
    fresh.save_pretrained(tmp_path)
    assert load_model(tmp_path).get_input_embeddings().padding_idx is None
    none = llama_config(MODEL, 40)
    assert (none.bos_token_id, none.eos_token_id, none.pad_token_id) == (None, None, None) and none.use_cache
    unpadded = build_model(MODEL, 40, 0, special=SpecialIds(5, 6))
    assert unpadded.config.pad_token_id is None and unpadded.generation_config.pad_token_id == 6


def test_a_run_of_an_earlier_version_is_exported_with_the_right_ids(built, tmp_path: Path) -> None:
    corpus, _, run = built
    old = tmp_path / "run"
    shutil.copytree(run, old)
    wrong = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "use_cache": False}
    for name in ("config.json", "generation_config.json"):
        write_json(old / "model" / name, read_json(old / "model" / name) | wrong)
    corpus.tokenizer.save_pretrained(old / "model")
    export_run_folder(old, tmp_path / "out")
    assert carried(tmp_path / "out")[0] == carried(run / "model")[0]
    assert carried(tmp_path / "out")[1]["eos_token_id"] == 257
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a")["input_ids"][0] == 256
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config.eos_token_id == 257


@pytest.mark.parametrize("specials", [("<end>",), ("<begin>", "<end>")])
def test_a_tokenizer_with_one_mark_or_no_padding(specials: tuple[str, ...], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(specials)
    if len(specials) == 1:
        tokenizer.eos_token, tokenizer.bos_token = "<end>", None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = CorpusConfig(
        sources={"facts": SourceConfig(kind="facts")}, tokenizer=str(tmp_path / "tokenizer"),
        sequence_length=32, train_tokens=512, heldout_tokens=256,
    )  # fmt: skip
    corpus = build_corpus(config, tmp_path / "corpus")
    assert corpus.special_ids == SpecialIds(256, 256 + len(specials) - 1, None)
    save_opening(open_corpus(tmp_path / "corpus").tokenizer, tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("a")["input_ids"] == [256, 64]


def random_gpt2(folder: Path, vocab_size: int, tokenizer: PreTrainedTokenizerFast | None) -> Path:
    """A random model of another layout, with this tokenizer beside it."""
    GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_positions=128, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        folder
    )
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def test_a_model_of_another_tokenizer_is_not_inspected_asked_or_trained(built, tmp_path: Path) -> None:
    """Although its vocabulary is as large."""
    corpus, _, run = built
    other = train_tokenizer(["some other words"], 259)
    stranger = random_gpt2(tmp_path / "stranger", corpus.vocab_size, other)
    assert len(other) == corpus.vocab_size
    display, said = StageDisplay(), r"stranger: its tokenizer \(259 tokens\) differs from the corpus's \(259 tokens\)"
    request = ModelRequest(against=stranger, corpus=corpus.folder, ablation=False)
    with pytest.raises(UserError, match=said):
        inspect_path(run, verify=False, request=request)
    with pytest.raises(UserError, match=rf"teacher .*{said}, so its labels"):
        label_corpus(LabelRequest(str(stranger), corpus.folder, tmp_path / "labels", {}, 64, dry_run=False), display)
    config = RunConfig(name="x", corpus=built[1].corpus, model=ModelConfig(path=str(stranger)))
    with pytest.raises(UserError, match=rf"model\.path .*{said}, so its weights"):
        train_into(
            tmp_path / "run", run=config, corpus=corpus, labels=None, precision_name="fp32", hooks=Hooks(),
        )  # fmt: skip


def test_a_model_of_another_tokenizer_is_measured_on_the_text_in_its_own_tokens(
    built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the corpus's own student: bits per byte are compared, what counts tokens is not."""
    corpus, _, run = built
    other = train_tokenizer(["the cat sat on a mat"] * 9, 300)
    stranger = random_gpt2(tmp_path / "stranger", len(other), other)
    shutil.copytree(run / "model", tmp_path / "copy")
    out = tmp_path / "out"
    evaluate_models([run, stranger, tmp_path / "copy"], corpus.folder, ["lm"], out, {}, StageDisplay())
    said = capsys.readouterr()
    assert "stranger: its tokenizer differs from the corpus's, so it reads the held-out text in tokens of its own" in (
        said.err.replace("\n", " ")
    )
    (folder,) = out.glob("stranger-*")
    found = read(Evaluation, folder / "evaluation.json")
    (mine,) = (read(Evaluation, one / "evaluation.json") for one in out.glob("run-*"))
    assert found.measured_on and mine.measured_on
    assert found.measured_on.differs(mine.measured_on) == "tokenizer" and found.measured_on.text == corpus.text_identity
    assert found.lm is not None and mine.lm is not None
    assert found.lm.bits_per_byte.num == mine.lm.bits_per_byte.num
    comparison = read(Comparison, out / "comparison.json")
    told, same = (
        {measure for part in one.items.values() for measure in part}
        for name, one in sorted(comparison.against.items(), key=lambda pair: "stranger" not in pair[0])
    )
    assert "bits_per_byte" in told and "nats_per_token" not in told
    assert {"bits_per_byte", "nats_per_token"} <= same


@pytest.mark.parametrize(("marks", "said"), [((), "its unembedding has 256 rows"), (None, "loses text")])
def test_a_tokenizer_that_cannot_say_the_text_is_refused_by_the_name_of_its_model(
    built, tmp_path: Path, marks: tuple[()] | None, said: str
) -> None:
    tokenizer = LOSES["lower case"]() if marks is None else tokenizer_of(marks)
    stranger = tmp_path / "stranger"
    LlamaForCausalLM(llama_config(MODEL, num_ids(tokenizer))).save_pretrained(stranger)
    tokenizer.save_pretrained(stranger)
    with pytest.raises(UserError, match=rf"model .*stranger: its tokenizer is not the corpus's, .* \(.*{said}"):
        evaluate_models([stranger], built[0].folder, ["lm"], tmp_path / "out", {}, StageDisplay())
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_tokenizer_is_taken_by_its_size_and_that_is_said(
    built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = built[0]
    display = StageDisplay()
    bare = random_gpt2(tmp_path / "bare", corpus.vocab_size, None)
    evaluate_models([bare], corpus.folder, ["lm"], tmp_path / "out", {"heldout_sequences": 2}, display)
    assert "has no tokenizer; its 259 tokens are taken to be those" in capsys.readouterr().err.replace("\n", " ")
    larger = random_gpt2(tmp_path / "larger", 300, None)
    with pytest.raises(UserError, match="its vocabulary of 300 tokens is not the corpus's of 259"):
        evaluate_models([larger], corpus.folder, ["lm"], tmp_path / "more", {}, display)


def test_labels_are_not_given_for_ids_of_another_tokenizer(built, tmp_path: Path) -> None:
    corpus, _, run = built
    label_corpus(LabelRequest(str(run), corpus.folder, tmp_path / "store", {}, 64, dry_run=False), StageDisplay())
    store = LabelStore.open(tmp_path / "store")
    with pytest.raises(
        UserError, match="a tokenizer of 259 tokens but token id 300 was looked up, which is of another"
    ):
        store.lookup(torch.full((1, 32), 300))
    with pytest.raises(UserError, match="use the corpus that was labelled"):
        store.lookup(torch.full((1, 32), 3))
    inspect_path(tmp_path / "store", verify=False, tokenizer=run / "model")
    train_tokenizer(["other"], 259).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="is another tokenizer than that of the labels"):
        inspect_path(tmp_path / "store", verify=False, tokenizer=tmp_path / "other")


def test_a_corpus_with_the_hash_of_an_earlier_version_still_fits_its_models(built, tmp_path: Path) -> None:
    from stillroom.corpora.tokenizer import hash_before

    corpus, _, run = built
    shutil.copytree(corpus.folder, tmp_path / "corpus")
    (tmp_path / "corpus/checksums.json").unlink()  # which earlier versions did not write
    manifest = read_json(tmp_path / "corpus/corpus.json")
    manifest["tokenizer_hash"] = hash_before(tokenizer_of())
    write_json(tmp_path / "corpus/corpus.json", manifest)
    values = {"heldout_sequences": 2}
    evaluate_models([run], tmp_path / "corpus", ["lm"], tmp_path / "out", values, StageDisplay())
    assert list((tmp_path / "out").glob("*/evaluation.json"))


def test_an_unembedding_with_fewer_rows_than_the_corpus_has_tokens_ends_in_a_sentence(built, tmp_path: Path) -> None:
    """Tokens were added to the tokenizer and never to the model."""
    corpus = built[0]
    short = random_gpt2(tmp_path / "short", corpus.vocab_size - 2, tokenizer_of())
    display, said = StageDisplay(), "short: its unembedding has 257 rows, expected one for each of the 259 tokens"
    with pytest.raises(UserError, match=rf"teacher .*{said}"):
        label_corpus(LabelRequest(str(short), corpus.folder, tmp_path / "labels", {}, 64, dry_run=False), display)
    with pytest.raises(UserError, match=rf"model .*{said}"):
        evaluate_models([short], corpus.folder, ["lm"], tmp_path / "out", {}, display)
    with pytest.raises(UserError, match="its unembedding has 257 rows, expected one for each of the tokenizer's 259"):
        ModelScores(load_model(short), corpus.vocab_size)
    assert not (tmp_path / "labels").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("spare", [0, 5])
@pytest.mark.parametrize("student_spare", [0, 3])
def test_rows_that_no_token_owns_change_nothing_of_a_live_teacher(
    built, tmp_path: Path, spare: int, student_spare: int
) -> None:
    corpus, run, _ = built
    path = random_gpt2(tmp_path / "teacher", corpus.vocab_size + spare, tokenizer_of())
    teacher = LiveTeacher(load_model(path), vocab_size=corpus.vocab_size)
    batch = corpus.train.batch(range(4))
    objective = ObjectiveConfig(alpha=1.0)
    context = StepContext(objective, teacher)
    student = build_model(run.model, corpus.vocab_size + student_spare, 0)
    found = global_step(Student(student), [batch], context, objective, seed=0).means()
    with torch.no_grad():
        assert teacher.labels(batch).vocab_size == corpus.vocab_size
        p_NV = torch.cat(list(ModelScores(student, corpus.vocab_size, precision="fp32").chunks(batch))).log_softmax(-1)
        q_NV = torch.cat(list(ModelScores(teacher.model, corpus.vocab_size, precision="fp32").chunks(batch)))
        q_NV = q_NV.log_softmax(-1)
    counted_N = batch.targets_BT.flatten() >= 0
    expected = -(q_NV.exp() * p_NV).sum(-1)[counted_N].mean()
    assert found["teacher_ce"] == pytest.approx(float(expected), rel=1e-4)


def test_labels_of_another_tokenizer_are_not_trained_on(built, tmp_path: Path) -> None:
    """Another tokenizer of as many tokens, so that every id is one of the corpus's too."""
    corpus, run, model = built
    other = train_tokenizer(["some other words"], corpus.vocab_size)
    other.save_pretrained(tmp_path / "tokenizer")
    config = built[1].corpus.model_copy(update={"tokenizer": str(tmp_path / "tokenizer")})
    foreign = build_corpus(config, tmp_path / "corpus")
    label_corpus(LabelRequest(str(model), corpus.folder, tmp_path / "store", {}, 64, dry_run=False), StageDisplay())
    with pytest.raises(UserError, match=r"labels .*store: are of the ids of another tokenizer \(259 tokens, .*\) than"):
        train_into(
            tmp_path / "run", run=run, corpus=foreign, labels=LabelStore.open(tmp_path / "store"),
            precision_name="fp32", hooks=Hooks(),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_command_that_a_store_without_the_labels_names_is_one(built, tmp_path: Path) -> None:
    corpus, _, run = built
    label_corpus(LabelRequest(str(run), corpus.folder, tmp_path / "store", {}, 64, dry_run=False), StageDisplay())
    with pytest.raises(UserError) as caught:
        LabelStore.open(tmp_path / "store").lookup(torch.full((1, 32), 3))
    command = str(caught.value).split("'")[-2].split()
    places = {"TEACHER": str(run), "CORPUS": str(corpus.folder), "LABELS": str(tmp_path / "more")}
    assert command[0] == "stillroom" and set(places) <= set(command)
    asked = [places.get(word, word) for word in command[1:]]
    done = CliRunner().invoke(app, [*asked, "--dry-run"])
    assert done.exit_code == 0, done.output
