// Package vocab turns text into token ids and back, with the tokenizer that a GGUF file describes in its metadata.
//
// Two families are here: byte-level byte-pair encoding (tokenizer.ggml.model = gpt2), with the pre-tokenizers listed by
// Pretokenizers, and SentencePiece-style score merging (tokenizer.ggml.model = llama). A tokenizer that is neither, or a
// pre-tokenizer that is not on the list, or none given at all, is an error that says so: text cut up in the wrong places
// gives a model that answers slightly worse and nobody knows why. The scanners follow the regular expression that the
// model was trained with, by hand, because Go's regexp has no lookahead.
//
// The package never touches weights, never renders chat templates (it only hands them out), and never lets a
// control token out of text unless EncodeOptions.ParseSpecial says that the text may hold some.
//
// Start reading at Vocab; Load builds one; AppendEncode, AppendDecode and Decoder are what callers use.
package vocab
