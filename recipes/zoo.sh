#!/bin/sh
# How the networks of the package and the tables of docs/results.md were made. Every command goes on where it was
# interrupted.
set -eu
bf16="--precision bf16"

# Ten classes, 500 to 1000 GeV; two classes above 400 GeV in several views; the jets that test those.
# (Vincia: 47,000 of the 60,000 events were done when the networks were trained.)
hepfm-data resim jetclass-jets --processes jetclass --detector jetclass --n-events 300000 --variations nominal,reseed \
  --seed 11 --chunk-events 1000
hepfm-data resim resim-jets --n-events 60000 --variations nominal,reseed,fsr-up,fsr-down,vincia --detector jetclass \
  --seed 31 --chunk-events 1000
hepfm-data resim resim-test --n-events 10000 --variations nominal,reseed,fsr-up,fsr-down,vincia --detector jetclass \
  --seed 32 --chunk-events 500

# Tokenizers and backbones.
hepfm-data tokenizer train recipes/kmeans-512.toml --data jetclass-jets --out runs/kmeans-512
for name in vqvae-512 vqvae-8192 vqvae-16200; do
  hepfm-data tokenizer train recipes/$name.toml --data jetclass-jets --out runs/$name
  hepfm-data tokenizer evaluate runs/$name jetclass-jets --out runs/$name/evaluation
  python recipes/bundle.py runs/$name $name
done
hepfm-data pretrain recipes/mpm-tiny.toml --data jetclass-jets --variations nominal,reseed --out runs/mpm-tiny
hepfm-data pretrain recipes/mpm-rs3l-tiny.toml --data jetclass-jets --variations nominal,reseed --out runs/mpm-rs3l-tiny
hepfm-data pretrain recipes/rs3l-tiny.toml --data resim-jets --out runs/rs3l-tiny
python recipes/bundle.py runs/mpm-tiny mpm-tiny --check jetclass-jets
python recipes/bundle.py runs/rs3l-tiny rs3l-tiny --check jetclass-jets

# What they are worth.
hepfm-data study labels hepfm/mpm-tiny --data jetclass-jets --labels 100,1000,5000 $bf16 --n-test 5000 \
  --out studies/ten-classes
hepfm-data study labels runs/mpm-rs3l-tiny --data jetclass-jets --labels 1000 --modes frozen,full $bf16 --n-test 5000 \
  --out studies/ten-classes-joint
hepfm-data study labels hepfm/rs3l-tiny --data resim-jets --classes QCD,Hbb --labels 100,1000 --modes linear,scratch,full \
  --test-data resim-test --split all --variations nominal,reseed,fsr-up,fsr-down,vincia --n-test 4500 $bf16 \
  --out studies/hbb
hepfm-data study labels hepfm/rs3l-tiny --data jetclass-jets --classes QCD,Wqq --labels 100 --modes linear,scratch,full \
  $bf16 --n-test 50000 --out studies/w
hepfm-data study map hepfm/rs3l-tiny --data resim-jets --variations nominal,vincia --n-jets 3000 --out studies/rs3l-map
hepfm-data study map hepfm/mpm-tiny --data jetclass-jets --out studies/mpm-map
