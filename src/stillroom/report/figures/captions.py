"""What stands under each figure: what is shown, of how many items, which interval, and how to read it."""

LEARNING = (
    "Cross-entropy on held-out text against training tokens seen, repeats counted; lower is better. One training "
    "run per model, no interval. Compare models at the same number of tokens. The steep fall of the first steps "
    "lies above the frame."
)
DISTANCE = (
    " The second panel is the forward KL divergence from the teacher’s labels on the training stream "
    "(cross-entropy against the labels minus their entropy; means over bins of steps)."
)
PASS_AT_K = (
    "Share of problems with at least one right answer among k draws (unbiased estimate from {samples}), against "
    "k on a logarithmic axis; higher is better. Bands are 95 % intervals over problems. A steeper line gains "
    "more from further draws; where bands overlap, the figure does not tell the models apart."
)
FRONTIER = (
    "pass@{last} against pass@{first}, one line per model from the lowest temperature to the highest (the "
    "number at a mark is the temperature, where there is room); {samples}. Thin lines are 95 % intervals over "
    "problems. Where one line lies above another at the same pass@{first}, and their intervals are apart, further "
    "draws find more at any temperature: such a difference is not one of temperature."
)
UNIQUE = (
    "Different right answers per problem among all samples; a model that repeats one right answer has at most "
    "1. Bars end at the mean, whiskers are 95 % intervals over problems (n = {count})."
)
IN_CONTEXT = (
    "ICL score: loss on the last repeat of a random sequence minus loss on its first pass; more negative means that "
    "the context helps more. Copying in order: share of the sequence’s other tokens that are less likely than the one "
    "that comes next, 1 for a copier and 1/2 (dashed) for a model that only prefers what stands in its context. "
    "Follows context: share of learnt facts, contradicted by the context, for which the most likely continuation is "
    "the context’s answer. Log-odds: how much likelier that answer is than the learnt one, above zero for the "
    "context and below for memory. Bars end at the mean, whiskers are 95 % intervals ({counts})."
)
PAIRED = (
    "Each model minus {baseline} on the very same items or problems, which is what an interval of a difference needs: "
    "where a whisker (95 %, over items) leaves zero, the two models differ on such items. It says nothing of other "
    "training runs. p-values are of a sign-flip test; corrected ones (Holm) count how many measures were tested. Equal "
    "answer entropy: pass@k where both models’ samples are equally diverse, read between "
    "temperatures."
)
SEEDS = (
    "Each arm minus {baseline}, both trained from the same seed: dots are seeds, bars end at their mean, whiskers are "
    "95 % intervals of Student’s t over seeds (n = {count} pairs). Where a whisker leaves zero, the arms differ by "
    "more than another seed would undo. The table has the means of all arms, and p-values of the paired t-test "
    "corrected for the number of differences (Holm)."
)
NEEDLE = (
    "A fact about someone made up stands once in held-out text and is asked for at the end. The number is the share of "
    "questions in which the stated value is the likeliest of all values of its attribute, by the length of the text "
    "and by where the fact stands in it (n = {count} a square, intervals in the table{chance})."
)
COPYING = (
    "Mean loss at each position of random tokens that repeat every {period} tokens ({count} sequences; vertical "
    "lines mark where a repeat begins; no interval). Nothing can be predicted before the first line; after it, "
    "a model that copies from its context falls, and the further it falls the better it copies."
)
HEADS = (
    "Every square is a head: layers from bottom to top, heads from left to right, both counted from 0. Previous "
    "token and prefix matching are mean attention (0 to 1); copying is the score of the head’s output circuit "
    "(−1 to 1). An induction head is strong in prefix matching and in copying; the outlined square is the head "
    "whose smaller score of the two is largest. Means over repeated random sequences, no interval."
)
ENTROPY = (
    "Share of positions by the entropy of the teacher’s next-token distribution; the triangle marks the "
    "mean{threshold}. n = {count} positions, by source in the table. At the left are the positions that the "
    "teacher is sure of: there a hard label says nearly as much as a soft one."
)
THRESHOLD = " and the dashed line the routing threshold, a mean over sequences ({nats} nats)"
WORTH = (
    "How much hard-label text gives the value that a student of soft labels has, over the text that it had itself: at "
    "2 each of its tokens did what two do under hard labels, at 1 (dashed) what one does. Read off the students of "
    "hard labels on {ladder} tokens, by a monotone curve in the logarithm of tokens; beyond them nothing is known, so "
    "that a mark or a whisker ends there with an arrow. Whiskers are 95 % intervals over {units}."
)
