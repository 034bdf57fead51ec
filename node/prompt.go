package node

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/sample"
	"github.com/weft-mesh/weft/shard/vocab"
)

// Defaults of sampling, where neither the request nor the model's metadata says.
const (
	defaultTemperature = 0.7
	defaultTopP        = 0.9
	penaltyWindow      = 64
)

// promptTokens makes the tokens of a request's prompt.
func promptTokens(m *opened, r api.GenerateRequest, now func() time.Time) ([]int32, error) {
	switch {
	case len(r.Tokens) > 0:
		for i, t := range r.Tokens {
			if t < 0 || int(t) >= m.config.Vocab {
				return nil, &api.Error{Kind: api.KindInvalid, Param: "prompt", Message: fmt.Sprintf("token %d of the prompt is %d; the vocabulary of %s has %d", i, t, m.entry.Name, m.config.Vocab)}
			}
		}
		return r.Tokens, nil
	case r.Prompt != nil:
		ids := m.vocab.Encode(*r.Prompt, vocab.EncodeOptions{ParseSpecial: true, AddSpecial: true})
		if len(ids) == 0 && m.vocab.BOS() != vocab.NoToken {
			ids = append(ids, m.vocab.BOS())
		}
		return ids, nil
	default:
		return chatTokens(m, r, now)
	}
}

func chatTokens(m *opened, r api.GenerateRequest, now func() time.Time) ([]int32, error) {
	t, err := m.template()
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "%w", err)
	}
	text, err := t.Render(chat.Input{
		Messages: r.Messages, Tools: r.Tools, AddGenerationPrompt: true, Extra: r.TemplateArgs, Now: now,
		BOSToken: special(m.vocab, m.vocab.BOS()), EOSToken: special(m.vocab, m.vocab.EOS()),
	})
	if err != nil {
		return nil, &api.Error{Kind: api.KindInvalid, Param: "messages", Message: err.Error()}
	}
	ids := m.vocab.Encode(text, vocab.EncodeOptions{ParseSpecial: true, AddSpecial: true})
	// Many templates write BOS themselves.
	if len(ids) > 1 && ids[0] == m.vocab.BOS() && ids[1] == ids[0] {
		ids = ids[1:]
	}
	if n := len(ids); n > 0 && m.vocab.AddEOS() && ids[n-1] == m.vocab.EOS() {
		ids = ids[:n-1] // the reply is still to come
	}
	return ids, nil
}

func special(v *vocab.Vocab, id int32) string {
	if id == vocab.NoToken {
		return ""
	}
	return v.Entry(id)
}

// samplingOf fills in what the request leaves open from the model's metadata.
func samplingOf(m *opened, r api.GenerateRequest) (*weftv1.Sampling, error) {
	s := &weftv1.Sampling{
		Choice: uint32(r.Choice), Temperature: metaOr(m, "general.sampling.temp", defaultTemperature), TopP: metaOr(m, "general.sampling.top_p", defaultTopP),
		RepeatPenalty: r.RepeatPenalty, PresencePenalty: r.PresencePenalty, FrequencyPenalty: r.FrequencyPenalty, PenaltyLastN: penaltyWindow,
	}
	if s.RepeatPenalty == 0 {
		s.RepeatPenalty = 1
	}
	if r.Temperature != nil {
		s.Temperature = *r.Temperature
	}
	if r.TopP != nil {
		s.TopP = *r.TopP
	}
	if r.TopK != nil {
		s.TopK = uint32(min(max(0, *r.TopK), math.MaxInt32))
	}
	if r.MinP != nil {
		s.MinP = *r.MinP
	}
	if r.Logprobs > 0 {
		s.WantLogprobs, s.Logprobs = true, uint32(min(r.Logprobs-1, sample.MaxTopLogprobs))
	}
	for id, b := range r.LogitBias {
		if id < 0 || id > math.MaxInt32 {
			id = math.MaxInt32 // a token of no vocabulary, refused below
		}
		s.Bias = append(s.Bias, &weftv1.LogitBias{Token: uint32(id), Bias: b})
	}
	p := worker.Sampling(s)
	if err := p.Validate(m.config.Vocab); err != nil {
		refused := &api.Error{Kind: api.KindInvalid, Message: err.Error()}
		if f := (*sample.FieldError)(nil); errors.As(err, &f) {
			refused.Param = f.Field
		}
		return nil, refused
	}
	if r.Seed != nil {
		s.Seed = *r.Seed
	} else {
		var b [8]byte
		rand.Read(b[:])
		s.Seed = binary.LittleEndian.Uint64(b[:]) >> 11 // fits a JSON number
	}
	return s, nil
}

func metaOr(m *opened, key string, def float64) float64 {
	if v, err := m.manifest.Header.Meta.Float(key); err == nil && v >= 0 && !math.IsNaN(v) {
		return v
	}
	return def
}
