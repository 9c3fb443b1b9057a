"""The machine, the files and the catalogue: plain values that every other package builds on."""
