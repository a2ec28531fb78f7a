"""What stands under each figure of a bigram sandbox: what is shown, with which interval, and how to read it."""

VARIATION = (
    "Total variation (half the sum of absolute differences) from the true rows, mean over rows, against the size of "
    "the sample. Marks are the exact optimum of each arm’s loss on the sample, whiskers 95 % intervals over {seeds} "
    "seeds, lines what theory expects: the hard labels’ sampling error, falling as the root of the sample, weighs "
    "1−α, and α times the teacher’s error stays. Values below 0.001 on a logarithmic axis are not drawn."
)
DIVERGENCE = (
    "KL divergence of the learnt from the true row in nats, mean over rows; marks, whiskers ({seeds} seeds) and lines "
    "as above. It would be infinite wherever a possible token was not seen, so one uniform sample is added to every "
    "row’s hard labels, in the measurement and in theory alike."
)
LEFTOVER = (
    "After {size} samples. Left: a teacher that leaks η evenly leaves α·η·(K−1)/K (K = {states}) on rows whose next "
    "token is certain, and routing by teacher entropy takes it away in proportion to the low-entropy samples routed; "
    "lines are that formula. Right: measured total variation against theory for every arm of the sweep, all teachers, "
    "temperatures and routings; on the dashed line they agree. Whiskers are 95 % intervals over seeds."
)
SWEEP = (
    "Total variation after {size} samples over {axis}. Arms on a line differ in this alone; legend and panel say what "
    "else they are. Marks are measured, whiskers 95 % intervals over seeds, lines join what theory expects."
)
RATIO = (
    "Samples at which hard labels bring the mean total variation below ε, over samples until every row was visited "
    "once, which is all that labels of the exact teacher alone (α = 1) need: the ratio that is said to grow as p/ε² "
    "(p next tokens per row, {states} rows, all high-entropy). Marks are measured, lines are theory, about p/ε² "
    "divided by 8·(1 + 1/2 + … + 1/K) for rows drawn evenly from the simplex; whiskers are 95 % intervals over seeds."
)
PASSES = (
    "Chance that k draws from the learnt row hold an answer drawn from the true one ({rows}), as a part of what the "
    "best policy for that k reaches: q = max(0, 1 − (λ/(k·p))^(1/(k−1))), the likeliest token alone at k = 1. The "
    "dashed line draws from the truth itself, which is too spread for one draw and all but best for many. Chances are "
    "exact and not sampled, so whiskers are 95 % intervals over training samples alone; the table has absolute values."
)
GRADIENT = (
    "The same arms learnt by Adam on a table of logits, each sample seen once in batches of 256, the learning rate "
    "falling to 0; {seeds}. Lines are the exact optimum on as many samples: the table starts late and ends near it, "
    "so what an arm leaves over is of its labels and not of the learner."
)
TRANSFORMER = (
    "The same arms learnt by a one-layer transformer through the training loop, on walks through the world; {seeds}. "
    "Lines are the exact optimum of a table on as many samples, which a network, having to find out that only the "
    "last token counts, approaches from above."
)
