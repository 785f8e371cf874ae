"""JSON read and written exactly as Rust's ``serde_json`` does, which is what a card's digest depends on."""
