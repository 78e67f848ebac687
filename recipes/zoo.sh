#!/bin/sh
# How the networks of the package and the tables of docs/results.md were made. Every command goes on where it was
# interrupted.
set -eu
bf16="--precision bf16"

# Ten classes, 500 to 1000 GeV, the same events and a tenth more, and in the detector of CMS; two classes above 400 GeV
# in several views, and the jets that test those. (When mpm-rs3l-tiny and rs3l-edgeconv were trained, 47,000 of the
# 60,000 events had a view of Vincia, which was without its tune; the ablations were tested with that Vincia, on the first
# 10,000 events of resim-test.)
hepfm-data resim jetclass-jets --processes jetclass --detector jetclass --n-events 300000 --variations nominal,reseed \
  --seed 11 --chunk-events 1000
hepfm-data resim more-jets --processes jetclass --detector jetclass --n-events 330000 --variations nominal --seed 11 \
  --chunk-events 1000
hepfm-data resim cms-jets --processes jetclass --detector cms --n-events 30000 --variations nominal --seed 14 \
  --chunk-events 1000
hepfm-data resim resim-jets --n-events 60000 --variations nominal,reseed,fsr-up,fsr-down,vincia --detector jetclass \
  --seed 31 --chunk-events 1000
hepfm-data resim resim-test --n-events 40000 --variations nominal,reseed,fsr-up,fsr-down,vincia --detector jetclass \
  --seed 32 --chunk-events 500

# Tokenizers and backbones.
evaluations=
for codes in 64 512 2048 8192 16384; do
  hepfm-data tokenizer train recipes/kmeans-512.toml --codes $codes --data jetclass-jets --out runs/kmeans-$codes
  hepfm-data tokenizer evaluate runs/kmeans-$codes jetclass-jets --out runs/kmeans-$codes/evaluation
  evaluations="$evaluations runs/kmeans-$codes/evaluation/evaluation.json"
done
for name in vqvae-512 vqvae-8192 vqvae-16200; do
  hepfm-data tokenizer train recipes/$name.toml --data jetclass-jets --out runs/$name
  hepfm-data tokenizer evaluate runs/$name jetclass-jets --out runs/$name/evaluation
  evaluations="$evaluations runs/$name/evaluation/evaluation.json"
  python recipes/bundle.py runs/$name $name
done
hepfm-data tokenizer compare $evaluations --out comparison
python recipes/bundle.py runs/kmeans-512 kmeans-512
hepfm-data pretrain recipes/mpm-tiny.toml --data jetclass-jets --variations nominal,reseed --out runs/mpm-tiny
python recipes/bundle.py runs/mpm-tiny mpm-tiny --check jetclass-jets
hepfm-data pretrain recipes/mpm-rs3l-tiny.toml --data jetclass-jets --data resim-jets --out runs/mpm-rs3l-tiny
python recipes/bundle.py runs/mpm-rs3l-tiny mpm-rs3l-tiny --check jetclass-jets
hepfm-data pretrain recipes/rs3l-tiny.toml --data resim-jets --out runs/rs3l-tiny
python recipes/bundle.py runs/rs3l-tiny rs3l-tiny --check jetclass-jets
hepfm-data pretrain recipes/rs3l-edgeconv.toml --data resim-jets --out runs/rs3l-edgeconv

# What they are worth. What lies in a run's folder goes into its card.
ten="study labels --data jetclass-jets $bf16 --n-test 5000"
hepfm-data $ten hepfm/mpm-tiny --labels 100,1000,5000 --out runs/mpm-tiny/studies/ten-classes
hepfm-data $ten runs/mpm-rs3l-tiny --labels 100,1000 --modes frozen,full --out runs/mpm-rs3l-tiny/studies/ten-classes
hepfm-data $ten hepfm/mpm-tiny --labels 10000 --out studies/ten-classes-10000
hepfm-data $ten hepfm/mpm-rs3l-tiny --labels 10000 --modes frozen,full --out studies/ten-classes-10000-joint
all="--labels 93000 --epochs 10 --precision fp32"
hepfm-data $ten hepfm/mpm-rs3l-tiny $all --modes frozen --out studies/ten-classes-93000-frozen
hepfm-data $ten hepfm/mpm-rs3l-tiny $all --modes scratch,full --seeds 2 --out studies/ten-classes-93000
hepfm-data study labels hepfm/mpm-tiny --data more-jets --test-data jetclass-jets $bf16 --n-test 5000 --labels 100000 \
  --epochs 10 --out runs/mpm-tiny/studies/ten-classes-100000
hepfm-data $ten hepfm/rs3l-tiny --labels 100,1000 --modes frozen,full --out runs/rs3l-tiny/studies/ten-classes
hepfm-data $ten hepfm/rs3l-tiny --labels 10000 --modes frozen,full --out studies/ten-classes-10000-rs3l
hepfm-data $ten runs/rs3l-edgeconv --labels 100,1000 --out studies/ten-classes-edgeconv
two="study labels --data resim-jets --classes QCD,Hbb $bf16 --n-test 40000 --test-data resim-test --split all"
views="--variations nominal,reseed,fsr-up,fsr-down,vincia"
hepfm-data $two runs/rs3l-tiny --labels 100,1000 --modes linear,scratch,full $views \
  --out runs/rs3l-tiny/studies/two-classes
for name in mpm-tiny mpm-rs3l-tiny; do
  hepfm-data $two hepfm/$name --labels 1000 --modes linear,full $views --out runs/$name/studies/two-classes
done
hepfm-data $two hepfm/rs3l-edgeconv --labels 1000 --modes linear,scratch,full $views \
  --out runs/rs3l-edgeconv/studies/two-classes
slow="--labels 1000 --modes full --backbone-rate 0.01"
hepfm-data $two hepfm/rs3l-tiny $slow --seeds 6 $views --out runs/rs3l-tiny/studies/two-classes-slowly
for name in mpm-tiny mpm-rs3l-tiny rs3l-edgeconv; do
  hepfm-data $two hepfm/$name $slow $views --out runs/$name/studies/two-classes-slowly
done
hepfm-data $two hepfm/rs3l-tiny --labels 100 --modes full --backbone-rate 0.01 $views --out studies/two-classes-100-slowly
hepfm-data $two hepfm/rs3l-tiny --labels 1000 --modes scratch --learning-rate 2e-4 --seeds 6 $views \
  --out studies/two-classes-scratch-slowly
hepfm-data study labels hepfm/rs3l-tiny --data jetclass-jets --classes QCD,Wqq --labels 100,1000 \
  --modes linear,scratch,full $bf16 --n-test 50000 --out runs/rs3l-tiny/studies/w-against-qcd
hepfm-data study labels hepfm/mpm-tiny --data cms-jets --labels 1000 $bf16 --n-test 5000 \
  --out runs/mpm-tiny/studies/another-detector

# Classes that a network never saw; which views make RS3L.
hepfm-data pretrain recipes/mpm-tiny.toml --data jetclass-jets --variations nominal,reseed --steps 2400 \
  --processes QCD,Hbb,Hcc,Hgg,Hqql,Zqq,Wqq --out runs/mpm-unseen
hepfm-data study labels runs/mpm-unseen --data jetclass-jets --classes QCD,Tbqq,Tbl,H4q --labels 1000 $bf16 \
  --n-test 5000 --out studies/unseen
for some in nominal,reseed nominal,fsr-up,fsr-down; do
  hepfm-data pretrain recipes/rs3l-tiny.toml --data resim-jets --variations $some --steps 1000 --out runs/rs3l-$some
  hepfm-data $two runs/rs3l-$some --labels 1000 --modes linear $views --out studies/rs3l-$some
done

# Without labels; RS3L of views that share the shower; what masked modelling asks for, and how much it hides.
hepfm-data study labels hepfm/mpm-rs3l-tiny --data jetclass-jets --classes QCD,Hbb --labels 2000 --fractions 0.05,0.2 \
  --modes scratch,full $bf16 --n-test 50000 --out studies/weak
hepfm-data resim shower-jets --n-events 30000 --variations nominal,reseed,rehadronise --detector jetclass --seed 31 \
  --chunk-events 1000
for view in reseed rehadronise; do
  hepfm-data pretrain recipes/rs3l-tiny.toml --data shower-jets --variations nominal,$view --steps 800 --out runs/rs3l-$view
  hepfm-data study labels runs/rs3l-$view --data shower-jets --classes QCD,Hbb --labels 1000 --modes linear $bf16 \
    --n-test 4500 --test-data resim-test --split all $views --out studies/rs3l-$view
done
mkdir -p runs/short
short() { # NAME EDIT: mpm-tiny in 800 steps, with what sed's EDIT changes
  sed -e 's/^n_steps.*/n_steps = 800/' -e 's/^\(evaluate\|save\)_every.*/\1_every = 400/' -e "$2" \
    recipes/mpm-tiny.toml >runs/short/$1.toml
  hepfm-data pretrain runs/short/$1.toml --data jetclass-jets --variations nominal --out runs/short/$1
}
short all ''
short codes 's/^targets.*/targets = ["codes"]/'
short codes-of-vqvae 's/^targets.*/targets = ["codes"]/; s/kmeans-512/vqvae-512/'
short inputs 's/^targets.*/targets = ["inputs"]/; /^tokenizer/d'
short codes-type-displacement 's/^targets.*/targets = ["codes", "type", "displacement"]/'
for share in 0.2 0.6; do short share-$share "s/^share.*/share = $share/"; done
short again '$a seed = 2'

# How fast a backbone forgets, and how heavy the contrast of a joint network should be, in views without Vincia.
four="nominal,reseed,fsr-up,fsr-down"
rates="--data resim-jets --classes QCD,Hbb $bf16 --labels 1000 --variations $four"
hepfm-data study labels hepfm/rs3l-tiny $rates --modes linear,frozen,scratch,full --out studies/rates
for rate in 0.02 0.01; do
  hepfm-data study labels hepfm/rs3l-tiny $rates --modes full --backbone-rate $rate --out studies/rates-full-$rate
done
for rate in 2e-4 1e-3; do
  hepfm-data study labels hepfm/rs3l-tiny $rates --modes scratch --learning-rate $rate --out studies/rates-scratch-$rate
done
hepfm-data resim fewer-jets --processes jetclass --detector jetclass --n-events 60000 --variations nominal,reseed \
  --seed 11 --chunk-events 1000
mkdir -p runs/joint
joint() { # WEIGHT STEPS WARMUP
  sed -e "s/^weight = .*/weight = $1.0/" -e 's/^share.*/share = 0.1/' -e "s/^n_steps.*/n_steps = $2/" \
    -e "s/^warmup_steps.*/warmup_steps = $3/" recipes/mpm-rs3l-tiny.toml >runs/joint/$1.toml
  hepfm-data pretrain runs/joint/$1.toml --data fewer-jets --data resim-jets --variations $four --out runs/joint/$1
  hepfm-data study labels runs/joint/$1 $rates --modes linear --out studies/joint-$1
  hepfm-data study labels runs/joint/$1 $rates --modes full --backbone-rate 0.01 --out studies/joint-$1-slowly
  hepfm-data study labels runs/joint/$1 --data fewer-jets --labels 1000 --modes frozen,full $bf16 --split validation \
    --out studies/joint-$1-ten
}
joint 1 1000 100
joint 3 3000 200
joint 10 3000 200

# Maps, and the cards once more with all of it.
for name in mpm-tiny mpm-rs3l-tiny; do
  hepfm-data study map runs/$name --data jetclass-jets --n-jets 5000 --out runs/$name
done
for name in rs3l-tiny rs3l-edgeconv; do
  hepfm-data study map runs/$name --data resim-jets --variations nominal,vincia --n-jets 3000 --out runs/$name
done
for name in mpm-tiny mpm-rs3l-tiny rs3l-tiny rs3l-edgeconv; do python recipes/bundle.py runs/$name $name; done
