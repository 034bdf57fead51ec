package sample

import (
	"fmt"
	"math"
)

// Limits of parameters.
const (
	// MaxBiases is the most entries of Params.Bias.
	MaxBiases = 1024
	// MaxTopLogprobs is the most alternatives that are reported with a token.
	MaxTopLogprobs = 20
	// DefaultLastN is how many tokens back penalties look when nothing is said.
	DefaultLastN = 64
)

// Bias is added to a token's logit before anything else.
type Bias struct {
	ID    int32
	Value float32 // -100 to 100
}

// Params are a request's sampling settings. The zero value samples greedily without penalties. A field's zero value always
// switches it off.
type Params struct {
	Seed   uint64
	Choice uint32 // which of a request's choices; each draws its own random numbers

	Temperature float32 // 0: the most likely token; up to 100
	TopK        int     // keep the k most likely tokens; 0: all
	TopP        float32 // keep the most likely tokens that together have this share; 0 or 1: all
	MinP        float32 // keep tokens at least this fraction as likely as the best; 0: all

	Repeat    float32 // positive logits of recent tokens are divided by it, others multiplied; 0 or 1: off
	Presence  float32 // taken from the logits of recent tokens; -100 to 100
	Frequency float32 // the same, for each time a token is among them
	LastN     int     // how many tokens back the three look, prompt included; 0: DefaultLastN, -1: all

	Bias []Bias

	Logprobs    bool // report the log-probability of each drawn token
	TopLogprobs int  // with Logprobs, report this many most likely tokens too
}

// FieldError refuses one parameter. Field is its name as requests spell it.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return e.Field + " " + e.Problem }

func refuse(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// Validate refuses parameters outside their ranges: the error is a *FieldError.
func (p *Params) Validate(vocab int) error {
	for _, f := range []struct {
		name   string
		v      float32
		lo, hi float32
	}{
		{"temperature", p.Temperature, 0, 100},
		{"top_p", p.TopP, 0, 1},
		{"min_p", p.MinP, 0, 1},
		{"presence_penalty", p.Presence, -100, 100},
		{"frequency_penalty", p.Frequency, -100, 100},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) { // so that a NaN is refused
			return refuse(f.name, "is %v; %v to %v was expected", f.v, f.lo, f.hi)
		}
	}
	switch {
	case p.Repeat != 0 && !(p.Repeat >= 0.01 && p.Repeat <= 100):
		return refuse("repeat_penalty", "is %v; 0.01 to 100 was expected, or 0 for none", p.Repeat)
	case p.TopK < 0 || p.TopK > math.MaxInt32:
		return refuse("top_k", "is %d; at least 0 was expected", p.TopK)
	case p.LastN < -1 || p.LastN > math.MaxInt32:
		return refuse("repeat_last_n", "is %d; at least -1 was expected", p.LastN)
	case p.TopLogprobs < 0 || p.TopLogprobs > MaxTopLogprobs:
		return refuse("top_logprobs", "is %d; 0 to %d was expected", p.TopLogprobs, MaxTopLogprobs)
	case p.TopLogprobs > 0 && !p.Logprobs:
		return refuse("top_logprobs", "is %d without logprobs; set logprobs too", p.TopLogprobs)
	case len(p.Bias) > MaxBiases:
		return refuse("logit_bias", "has %d entries; at most %d are allowed", len(p.Bias), MaxBiases)
	}
	for _, b := range p.Bias {
		if b.ID < 0 || int(b.ID) >= vocab {
			return refuse("logit_bias", "names token %d; the vocabulary has %d tokens", b.ID, vocab)
		}
		if !(b.Value >= -100 && b.Value <= 100) {
			return refuse("logit_bias", "of token %d is %v; -100 to 100 was expected", b.ID, b.Value)
		}
	}
	return nil
}

// Token is a drawn token.
type Token struct {
	ID      int32
	Logprob float32 // natural logarithm of its probability by the raw logits; 0 unless asked for
	// Top are the most likely tokens by the raw logits, best first, ties to the lower id; nil unless asked for.
	Top []Logprob
}

// Logprob is a token's log-probability by the raw logits, before any sampler.
type Logprob struct {
	ID      int32
	Logprob float32
}
