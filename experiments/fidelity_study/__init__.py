"""``augment study``: how good are the samples? The paper's Tables 1, 3, 6 and 7 and its Figures 3, 4 and 9 to 14."""
