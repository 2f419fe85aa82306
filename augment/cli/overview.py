"""What ``augment`` says by itself: the steps from scans to a cohort, and where help is."""

OVERVIEW = """Synthetic cohorts for small medical-imaging studies.

  1  augment check my-study             every problem of the cohort in one report
  2  augment fit my-study               one model per class, in models/
  3  augment generate                   a synthetic cohort, in synthetic/
  4  augment audit synthetic            whether it gives patients away
     augment evaluate my-study          whether it helps a classifier

Your pipeline:    augment prepare my-study --like synthetic   the real images in the same form
No data at hand:  augment demo
Help:             augment --help, augment fit --help; augment doctor looks at this machine
"""
