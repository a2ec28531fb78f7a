"""Every objective that a configuration can name, against its definition on whole logits in float64."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from stillroom.config import ObjectiveConfig, RoutingConfig, ScheduleConfig
from stillroom.objectives import Progress, TeacherLogits, require_terms, row_statistics, token_losses
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

B, T, V, D, K = 4, 9, 31, 8, 6
N = B * T


def problem(seed=0, truncated=False):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, V, (B, T), generator=g)
    targets = torch.cat([tokens[:, 1:], torch.full((B, 1), IGNORE_INDEX)], 1)
    targets[1, 4] = IGNORE_INDEX
    batch = Batch(tokens, targets, torch.zeros(B, T, dtype=torch.int32))
    hidden, weight, logits = (torch.randn(s, generator=g).double() for s in ((N, D), (V, D), (N, V)))
    q = logits.softmax(-1)
    weights, ids = q.topk(K, -1)
    tail = 1 - weights.sum(-1) if truncated else None
    if not truncated:
        weights = weights / weights.sum(-1, keepdim=True)
    gold = q.log().gather(1, targets.view(-1, 1).clamp(min=0)).squeeze(1)
    labels = SoftLabels(ids, weights, torch.special.entr(q).sum(-1), gold, torch.zeros(N).int(), tail)
    return hidden.requires_grad_(), weight.requires_grad_(), batch, labels, logits


def mean(terms, name):
    values, weights = terms[name]
    return float((values * weights).sum() / weights.sum())


def divergence(log_p, log_q, kind, beta):
    q, p = log_q.exp(), log_p.exp()
    if kind == "cross-entropy":
        return -(q * log_p).sum(-1)
    if kind == "forward-kl":
        return (q * (log_q - log_p)).sum(-1)
    if kind == "reverse-kl":
        return (p * (log_p - log_q)).sum(-1)
    log_m = ((1 - beta) * p + beta * q).log()
    return beta * (q * (log_q - log_m)).sum(-1) + (1 - beta) * (p * (log_p - log_m)).sum(-1)


@pytest.mark.parametrize("kind", ["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"])
@pytest.mark.parametrize(("form", "temperature"), [("teacher", 1.0), ("teacher", 2.0), ("both", 2.0)])
def test_live_teacher_in_both_temperature_forms(kind, form, temperature):
    hidden, weight, batch, _, logits = problem()
    objective = ObjectiveConfig(
        alpha=0.75, temperature=temperature, temperature_form=form, divergence=kind, beta=0.3, z_loss=0.01
    )
    out = token_losses(hidden, weight, batch, objective, TeacherLogits(logits, None))
    z = hidden @ weight.t()
    targets = batch.targets_BT.view(-1)
    counted = (targets != IGNORE_INDEX).double()
    student_t, factor = (temperature, temperature**2) if form == "both" else (1.0, 1.0)
    log_p, log_q = (z / student_t).log_softmax(-1), (logits / temperature).log_softmax(-1)
    soft = divergence(log_p, log_q, kind, 0.3)
    expected = 0.25 * cross_entropy(z, targets, reduction="none") + counted * (
        0.75 * factor * soft + 0.01 * z.logsumexp(-1).square()
    )
    torch.testing.assert_close(out.loss_N, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.loss_N.sum(), [hidden, weight]), torch.autograd.grad(expected.sum(), [hidden, weight])
    )
    teacher_ce = divergence(log_p, log_q, "cross-entropy", 0).detach()
    assert mean(out.terms, "teacher_ce") == pytest.approx(float((teacher_ce * counted).sum() / counted.sum()))
    kl = mean(out.terms, "teacher_ce") - mean(out.terms, "teacher_entropy")
    assert mean(out.terms, "forward_kl") == pytest.approx(kl)
    if kind in ("reverse-kl", "jensen-shannon"):
        name = kind.replace("-", "_")
        assert mean(out.terms, name) == pytest.approx(float((soft.detach() * counted).sum() / counted.sum()))


@pytest.mark.parametrize("form", ["teacher", "both"])
def test_stored_labels_at_a_temperature(form):
    hidden, weight, batch, labels, _ = problem()
    objective = ObjectiveConfig(alpha=0.75, temperature=2.0, temperature_form=form)
    out = token_losses(hidden, weight, batch, objective, labels, label_temperature=2.0)
    z, targets = hidden @ weight.t(), batch.targets_BT.view(-1)
    student_t, factor = (2.0, 4.0) if form == "both" else (1.0, 1.0)
    soft = -(labels.weights * (z / student_t).log_softmax(-1).gather(1, labels.ids)).sum(-1)
    counted = (targets != IGNORE_INDEX).double()
    expected = 0.25 * cross_entropy(z, targets, reduction="none") + counted * 0.75 * factor * soft
    torch.testing.assert_close(out.loss_N, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.loss_N.sum(), [hidden, weight]), torch.autograd.grad(expected.sum(), [hidden, weight])
    )


@pytest.mark.parametrize("tail", ["bucket", "renormalise", "gold"])
@pytest.mark.parametrize("kind", ["cross-entropy", "forward-kl"])
def test_truncated_labels_and_what_becomes_of_their_tail(tail, kind):
    hidden, weight, batch, labels, _ = problem(truncated=True)
    routing = RoutingConfig(rule="low-entropy", share=0.25)
    objective = ObjectiveConfig(alpha=0.75, tail=tail, divergence=kind, routing=routing)
    out = token_losses(hidden, weight, batch, objective, labels)
    log_p = (hidden @ weight.t()).log_softmax(-1)
    targets = batch.targets_BT.view(-1)
    counted, kept = targets != IGNORE_INDEX, (targets != IGNORE_INDEX) & ~out.routed_N
    q = torch.zeros(N, V).double().scatter(1, labels.ids, labels.weights)
    if tail == "gold":
        q = q + torch.zeros(N, V).double().scatter(1, targets.clamp(min=0)[:, None], labels.tail[:, None])
    if tail == "renormalise":
        q = q / q.sum(-1, keepdim=True)
    soft, entropy = -(q * log_p).sum(-1), torch.special.entr(q).sum(-1)
    if tail == "bucket":
        listed = torch.zeros(N, V).bool().scatter(1, labels.ids, True)
        rest = log_p.masked_fill(listed, -torch.inf).logsumexp(-1)
        soft, entropy = soft - labels.tail * rest, entropy + torch.special.entr(labels.tail)
    hard = torch.where(out.routed_N, 1.0, 0.25) * cross_entropy(hidden @ weight.t(), targets, reduction="none")
    value = soft - entropy if kind == "forward-kl" else soft
    expected = hard + 0.75 * kept * value
    torch.testing.assert_close(out.loss_N, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.loss_N.sum(), [hidden, weight]), torch.autograd.grad(expected.sum(), [hidden, weight])
    )
    torch.testing.assert_close(out.terms["forward_kl"][0][kept], (soft - entropy)[kept].detach())
    assert torch.equal(out.terms["forward_kl"][1] > 0, kept)
    share = out.routed_N.sum() / counted.sum()
    assert mean(out.terms, "routed_share") == pytest.approx(float(share))
    assert mean(out.terms, "entropy_routed") < mean(out.terms, "entropy_kept")


@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_label_smoothing_of_the_hard_part(alpha):
    hidden, weight, batch, labels, _ = problem()
    objective = ObjectiveConfig(alpha=alpha, label_smoothing=0.1)
    out = token_losses(hidden, weight, batch, objective, labels)
    z, targets = hidden @ weight.t(), batch.targets_BT.view(-1)
    soft = -(labels.weights * z.log_softmax(-1).gather(1, labels.ids)).sum(-1) * (targets != IGNORE_INDEX)
    expected = (1 - alpha) * cross_entropy(z, targets, label_smoothing=0.1, reduction="none") + alpha * soft
    torch.testing.assert_close(out.loss_N, expected, rtol=1e-6, atol=1e-6)
    plain = cross_entropy(z, targets, reduction="none")
    torch.testing.assert_close(out.terms["ce"][0], plain.detach())


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rule", ["low-entropy", "low-gold-probability", "copy-aware", "student-entropy", "random"])
@pytest.mark.parametrize("pieces", [2, 4])
def test_gradient_does_not_depend_on_the_number_of_micro_batches(rule, pieces, live):
    hidden, weight, batch, labels, logits = problem()
    objective = ObjectiveConfig(alpha=0.75, routing=RoutingConfig(rule=rule, share=0.3))
    count = int((batch.targets_BT != IGNORE_INDEX).sum())

    def loss(part):
        flat = slice(part.start * T, part.stop * T)
        piece = Batch(batch.tokens_BT[part], batch.targets_BT[part], batch.document_BT[part])
        names = ("ids", "weights", "entropy", "gold_logprob", "gold_rank")
        given = TeacherLogits(logits[flat], None) if live else SoftLabels(*(getattr(labels, n)[flat] for n in names))
        return token_losses(hidden[flat], weight, piece, objective, given, seed=7).loss_N.sum() / count

    size = B // pieces
    parts = [loss(slice(start, start + size)) for start in range(0, B, size)]
    split = torch.autograd.grad(sum(parts), [hidden, weight])
    torch.testing.assert_close(split, torch.autograd.grad(loss(slice(0, B)), [hidden, weight]))


def test_student_entropy_routing_looks_at_the_student():
    hidden, weight, batch, labels, _ = problem()
    objective = ObjectiveConfig(alpha=0.75, routing=RoutingConfig(rule="student-entropy", share=0.25))
    out = token_losses(hidden, weight, batch, objective, labels)
    entropy = torch.special.entr((hidden @ weight.t()).softmax(-1)).sum(-1)
    counted = batch.targets_BT.view(-1) != IGNORE_INDEX
    for row in range(B):
        here = slice(row * T, row * T + T)
        routed, kept = out.routed_N[here], counted[here] & ~out.routed_N[here]
        assert entropy[here][routed].max() <= entropy[here][kept].min()


def test_perturbing_the_student_changes_every_term_and_the_teacher_gets_no_gradient():
    hidden, weight, batch, _, logits = problem()
    logits.requires_grad_()
    objective = ObjectiveConfig(alpha=0.75, divergence="reverse-kl")
    teacher = TeacherLogits(logits, None)
    before = token_losses(hidden, weight, batch, objective, teacher)
    after = token_losses(hidden + 0.1, weight, batch, objective, teacher)
    for name in ("ce", "teacher_ce", "forward_kl", "reverse_kl"):
        assert mean(before.terms, name) != mean(after.terms, name)
    assert mean(before.terms, "teacher_entropy") == mean(after.terms, "teacher_entropy")
    before.loss_N.sum().backward()
    assert hidden.grad is not None and logits.grad is None


def test_schedules_are_followed_and_need_the_progress():
    hidden, weight, batch, labels, _ = problem()
    objective = ObjectiveConfig(alpha=1.0, alpha_schedule=ScheduleConfig(kind="linear", final=0.0))
    half = token_losses(hidden, weight, batch, objective, labels, progress=Progress(50, 100))
    fixed = token_losses(hidden, weight, batch, ObjectiveConfig(alpha=0.5), labels)
    torch.testing.assert_close(half.loss_N, fixed.loss_N)
    over = token_losses(hidden, weight, batch, objective, labels, progress=Progress(100, 100))
    assert "teacher_ce" not in over.terms
    with pytest.raises(UserError, match="no progress was given"):
        token_losses(hidden, weight, batch, objective, labels)


@pytest.mark.parametrize(
    ("options", "live", "message"),
    [
        ({"temperature": 2.0}, False, "temperature: is 2 but the labels were made at 1"),
        ({"divergence": "reverse-kl"}, False, "reverse-kl needs the teacher's whole distribution"),
        ({"label_smoothing": 0.1}, True, "label_smoothing: is above 0 with a live teacher"),
    ],
)
def test_what_labels_cannot_serve_is_refused(options, live, message):
    hidden, weight, batch, labels, logits = problem()
    with pytest.raises(UserError, match=message):
        token_losses(
            hidden,
            weight,
            batch,
            ObjectiveConfig(alpha=0.5, **options),
            TeacherLogits(logits, None) if live else labels,
        )


def test_a_declared_term_without_tokens_stops_the_run():
    require_terms({"ce": 5.0, "teacher_ce": 1.0, "entropy_routed": 0.0})
    with pytest.raises(UserError, match="the term teacher_ce received 0 tokens in the first step"):
        require_terms({"ce": 5.0, "teacher_ce": 0.0})


def test_padding_of_teacher_and_student_changes_nothing():
    hidden, weight, batch, _, logits = problem()
    objective = ObjectiveConfig(alpha=0.75, routing=RoutingConfig(rule="low-entropy", share=0.3))
    wide = torch.cat([logits, torch.full((N, 5), 9.0).double()], 1)  # padding that would take nearly all the mass
    padded = torch.cat([weight, torch.ones(2, D).double()])
    same = token_losses(hidden, weight, batch, objective, TeacherLogits(logits, None))
    out = token_losses(hidden, padded, batch, objective, TeacherLogits(wide, None), vocab_size=V)
    torch.testing.assert_close(out.loss_N, same.loss_N)
    assert torch.equal(out.routed_N, same.routed_N)


def test_distillation_alone_declares_no_hard_term_of_its_own():
    hidden, weight, batch, labels, logits = problem()
    for objective, teacher in (
        (ObjectiveConfig(alpha=1.0, temperature=2.0, temperature_form="both"), TeacherLogits(logits, None)),
        (ObjectiveConfig(alpha=1.0), labels),
    ):
        out = token_losses(hidden, weight, batch, objective, teacher)
        require_terms({name: float(weights.sum()) for name, (_, weights) in out.terms.items()})
        assert "teacher_ce" in out.terms


def test_ready_logits_are_not_rounded_under_autocast():
    hidden, weight, batch, _, logits = problem()
    teacher = TeacherLogits(4 * logits.float(), None)
    targets = batch.targets_BT.reshape(-1)
    exact = torch.special.entr((4 * logits).softmax(-1)).sum(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        statistics = row_statistics(teacher, targets)
        objective = ObjectiveConfig(alpha=0.5)
        out = token_losses(hidden.detach().float(), weight.detach().float(), batch, objective, teacher)
    torch.testing.assert_close(statistics.entropy_N.double(), exact, rtol=1e-4, atol=1e-5)
    entropy, counted = out.terms["teacher_entropy"]
    torch.testing.assert_close(entropy[counted > 0].double(), exact[counted > 0], rtol=1e-4, atol=1e-5)
