// Attention over paged KV.
