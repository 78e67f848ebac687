#!/bin/sh
# Shower a Les Houches file with Herwig 7 and write HepMC 2: an external generator for hepfm-data.
#
# usage: herwig7.sh LHE HEPMC SEED N_EVENTS
#
#     hepfm-data resim --external "examples/external/herwig7.sh {lhe} {hepmc} {seed} {n_events}" \
#         --variation-name herwig7
#
# Herwig must be in PATH. Everything is written to the current folder, which hepfm-data makes for each run.
set -eu

if [ $# -ne 4 ]; then
    echo "usage: herwig7.sh LHE HEPMC SEED N_EVENTS" >&2
    exit 2
fi
card=$(cd "$(dirname "$0")" && pwd)/herwig7.in

sed -e "s|@LHE@|$1|" -e "s|@HEPMC@|$2|" -e "s|@N_EVENTS@|$4|" "$card" > hepfm.in
Herwig read hepfm.in
Herwig run hepfm.run -N "$4" -s "$3"
