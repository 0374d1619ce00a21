#!/bin/sh
# How often do both concepts of a prompt appear? Learns four examples on mini-sd and draws three pairs of them, eight
# seeds each, in every layout and at two widths; the sheets are counted by looking at them: docs/several-concepts.md.
# Half an hour on two cores. What is there already is kept, so that an interrupted run goes on.
set -eu
cd "$(dirname -- "$0")/.."
folder=${1:-several-concepts}

for example in starmug:mug stripes:fish ginger:cat dotbot:robot; do
  name=${example%:*}
  [ -e "$folder/$name/concept.safetensors" ] ||
    ./neti train --images "Examples/$name" --token "<$name>" --category "${example#*:}" --output "$folder/$name"
done

draw() { # first concept, second concept, name of the way, options
  left=$1 right=$2 way=$3
  shift 3
  [ -e "$folder/$left-$right/$way/sheet.png" ] ||
    ./neti generate --concept "$left=$folder/$left/concept.safetensors" \
      --concept "$right=$folder/$right/concept.safetensors" --prompt "a photo of a {$left} next to a {$right}" \
      --seed 0-7 --steps 20 --output "$folder/$left-$right/$way" "$@"
}

for pair in starmug:stripes ginger:dotbot stripes:ginger; do
  draw "${pair%:*}" "${pair#*:}" free --layout free
  draw "${pair%:*}" "${pair#*:}" free-wide --layout free --width 256
  draw "${pair%:*}" "${pair#*:}" side-by-side --layout side-by-side
done
