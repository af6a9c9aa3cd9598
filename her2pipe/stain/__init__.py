"""Stain estimation and normalisation: two stain vectors per slide, then a map of colours.

A slide is described once, by a `Profile`; normalising is then a pure map of single pixels from it
to a target's: V = ln 255 - ln max(I, 1); H = argmin |V - H W|^2, H >= 0, with the slide's vectors
W; H' = H times target maximum / slide maximum; I' = 255 exp(-H' W'), with the target's. H has no
L1 term here: it finds the vectors, but shrinking concentrations by it would bleach the picture.
As published, the part of V that two stains cannot explain (noise, pigment, ink) is dropped. Glass
stays glass; a slide mapped to its own profile is unchanged where its colours mix its two stains.
"""
