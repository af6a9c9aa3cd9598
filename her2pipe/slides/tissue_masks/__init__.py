"""How tissue is found on a whole slide, one method each."""
