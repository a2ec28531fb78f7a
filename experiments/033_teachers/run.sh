#!/bin/sh
# The whole of study 033, from the source checkout; run it again to go on where it stopped. Needs the extra rl.
set -eu
FAMILIES="pair_sum between multiple pick progression chain_sum gcd" # those of the text
HERE=experiments/033_teachers

students() { stillroom study "$HERE/recipe.py:$1" --jobs 2 --artifacts runs/artifacts --out "runs/033-$1"; }
teacher() { # its training only
    test -d "teachers/$1/model" && return
    stillroom train "$HERE/recipe.py:$1" --arm teacher --artifacts runs/artifacts --export "teachers/$1/model"
}

students base
for name in base early small; do teacher "$name"; done
stillroom teachers supervise teachers/base/model --out teachers/instructed --families "$FAMILIES"
stillroom teachers reinforce teachers/instructed/model --out teachers/reinforced --families "$FAMILIES" --learning-rate 3e-4
stillroom teachers rank teachers/base/model teachers/instructed/model teachers/reinforced/model teachers/early/model \
    teachers/small/model --corpus runs/033-base --student runs/033-base:spt_quarter-s0 --proxy-tokens 131072 --proxy-seeds 2 \
    --problems 100 --out rankings/033
for name in instructed reinforced early small; do students "$name"; done
python experiments/over_seeds.py "$HERE" runs/033-base runs/033-instructed runs/033-reinforced runs/033-early runs/033-small
python "$HERE/order.py" rankings/033
python experiments/forest.py "$HERE"
