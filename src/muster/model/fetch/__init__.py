"""The frontend's side: bring the files a card names here, verified."""
