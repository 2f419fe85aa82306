"""What every study stands on: repeated runs that resume, the systems that they compare, and the pages that tell of them."""
