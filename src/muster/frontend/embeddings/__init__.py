"""``POST /v1/embeddings``: for engines that embed."""
