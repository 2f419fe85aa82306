"""What decoding loses, given back: registration, mosaics of several people's detail, and morphs of two."""
