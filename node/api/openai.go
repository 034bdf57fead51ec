package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// openAI is the surface that programs written for the OpenAI API use.
type openAI struct {
	node Node
	now  func() time.Time
	log  *slog.Logger
}

func (o *openAI) routes() routes {
	return routes{
		"/healthz":             {http.MethodGet: o.health},
		"/metrics":             {http.MethodGet: o.metrics},
		"/v1/chat/completions": {http.MethodPost: o.chatCompletions},
		"/v1/completions":      {http.MethodPost: o.completions},
		"/v1/models":           {http.MethodGet: o.listModels},
		"/v1/models/{id...}":   {http.MethodGet: o.oneModel},
	}
}

func (o *openAI) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (o *openAI) metrics(w http.ResponseWriter, r *http.Request) {
	b, err := o.node.WriteMetrics(r.Context())
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b)
}

// openAIModel is an entry of /v1/models.
type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int    `json:"context_length"` // this and what follows are beyond OpenAI's fields
	State   string `json:"state,omitempty"`
}

// models lists what can be asked for; a name that two models have comes with
// its hash.
func (o *openAI) models(r *http.Request) ([]openAIModel, error) {
	list, err := o.node.Models(r.Context())
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, m := range list {
		count[m.Name]++
	}
	out := make([]openAIModel, 0, len(list))
	for _, m := range list {
		e := openAIModel{ID: m.Name, Object: "model", OwnedBy: "weft", Context: m.Context, State: m.State}
		if count[m.Name] > 1 {
			e.ID = fmt.Sprintf("%s@%.12s", m.Name, m.Hash)
		}
		if !m.Added.IsZero() {
			e.Created = m.Added.Unix()
		}
		out = append(out, e)
	}
	return out, nil
}

func (o *openAI) listModels(w http.ResponseWriter, r *http.Request) {
	list, err := o.models(r)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Object string        `json:"object"`
		Data   []openAIModel `json:"data"`
	}{"list", list})
}

func (o *openAI) oneModel(w http.ResponseWriter, r *http.Request) {
	list, err := o.models(r)
	if err != nil {
		writeError(w, err)
		return
	}
	id := r.PathValue("id")
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain
	}
	for _, m := range list {
		if m.ID == id {
			writeJSON(w, http.StatusOK, m)
			return
		}
	}
	writeError(w, &Error{Kind: KindNotFound, Param: "model", Message: fmt.Sprintf("no model is named %.100q; /v1/models lists them", id)})
}
