package api

// chatLogprobs is the shape of /v1/chat/completions.
type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
	Refusal []chatLogprob `json:"refusal"` // always null
}

type chatLogprob struct {
	Token   string        `json:"token"`
	Logprob float64       `json:"logprob"`
	Bytes   []int         `json:"bytes"`
	Top     []chatLogprob `json:"top_logprobs,omitempty"`
}

// textLogprobs is the shape of /v1/completions.
type textLogprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []float64            `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

// logprobsOf gives tokens in the endpoint's shape; offset is the length of the
// text before them, in bytes.
func (q *completionRequest) logprobsOf(tokens []Token, offset int) any {
	if q.chat {
		l := &chatLogprobs{Content: []chatLogprob{}}
		for _, t := range tokens {
			c := chatLogprobOf(t)
			c.Top = []chatLogprob{}
			for _, alt := range t.Top {
				c.Top = append(c.Top, chatLogprobOf(alt))
			}
			l.Content = append(l.Content, c)
		}
		return l
	}
	l := &textLogprobs{Tokens: []string{}, TokenLogprobs: []float64{}, TopLogprobs: []map[string]float64{}, TextOffset: []int{}}
	for _, t := range tokens {
		l.Tokens = append(l.Tokens, t.Text)
		l.TokenLogprobs = append(l.TokenLogprobs, t.Logprob)
		top := map[string]float64{}
		for _, alt := range t.Top {
			// Pieces that are parts of characters may look alike; the likelier stays.
			if _, ok := top[alt.Text]; !ok {
				top[alt.Text] = alt.Logprob
			}
		}
		l.TopLogprobs = append(l.TopLogprobs, top)
		l.TextOffset = append(l.TextOffset, offset)
		offset += len(t.Text)
	}
	return l
}

func chatLogprobOf(t Token) chatLogprob {
	c := chatLogprob{Token: t.Text, Logprob: t.Logprob, Bytes: []int{}}
	for _, b := range t.Bytes {
		c.Bytes = append(c.Bytes, int(b))
	}
	return c
}
