// For attention_decode over a float16 cache: the token's own row has no scale to keep.

fn keep_own_key(row: RowCode, is_writer: bool) {}

fn keep_own_value(row: RowCode, is_writer: bool) {}
