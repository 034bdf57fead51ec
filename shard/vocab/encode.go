package vocab

// EncodeOptions says how text becomes tokens. The zero value is right for text from a user: no control tokens.
type EncodeOptions struct {
	// ParseSpecial lets control tokens written in the text become those tokens, as a rendered chat template needs it.
	// Text of strangers must not be parsed so. User-defined tokens are recognised always.
	ParseSpecial bool
	// AddSpecial puts BOS before and EOS behind, if the model expects them (AddBOS, AddEOS).
	AddSpecial bool
}

// Encode turns text into token ids.
func (v *Vocab) Encode(text string, o EncodeOptions) []int32 { return v.AppendEncode(nil, text, o) }

// AppendEncode appends text's token ids to dst. Time is O(n log n) in the length of text, whatever it is.
func (v *Vocab) AppendEncode(dst []int32, text string, o EncodeOptions) []int32 {
	if o.AddSpecial && v.addBOS {
		dst = append(dst, v.bos)
	}
	first := true
	if text != "" {
		for _, f := range v.special.split(text, o.ParseSpecial) {
			if f.id != NoToken {
				dst = append(dst, f.id)
			} else {
				dst = v.enc.encode(dst, f.text, first)
			}
			first = f.id != NoToken
		}
	}
	if o.AddSpecial && v.addEOS {
		dst = append(dst, v.eos)
	}
	return dst
}
