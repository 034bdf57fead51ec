package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// figures are one sample: tokens a second, and the share of the memory's speed
// that decoding reaches (weft alone says it).
type figures struct{ prefill, decode, share float64 }

// command runs a program to its end; the error has what it said.
func command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said := strings.TrimSpace(string(exit.Stderr))
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said[max(0, len(said)-400):])
	}
	return out, err
}

func (s *settings) bench(ctx context.Context, args ...string) ([]benchResult, error) {
	out, err := command(ctx, []string{"WEFT_HOME=" + s.home}, s.weft, append([]string{"bench", "-r", "1", "--json"}, args...)...)
	if err != nil {
		return nil, err
	}
	return parseBench(out)
}

// benchResult is one result of `weft bench --json`.
type benchResult struct {
	Prompt int     `json:"n_prompt"`
	Gen    int     `json:"n_gen"`
	Rate   float64 `json:"tokens_per_s"`
	Share  float64 `json:"memory_share"`
}

func parseBench(out []byte) ([]benchResult, error) {
	var rep struct{ Results []benchResult }
	if err := json.Unmarshal(out, &rep); err != nil {
		return nil, fmt.Errorf("read the figures of weft bench: %w", err)
	}
	for _, r := range rep.Results {
		if r.Rate <= 0 {
			return nil, errors.New("weft bench gave a rate that is none")
		}
	}
	return rep.Results, nil
}

// solo is one sample of weft's prefill and decode.
func (s *settings) solo(ctx context.Context, file string, threads, prompt, gen int) (figures, error) {
	list, err := s.bench(ctx, "-m", file, "-t", fmt.Sprint(threads), "-p", fmt.Sprint(prompt), "-n", fmt.Sprint(gen))
	if err != nil {
		return figures{}, err
	}
	if len(list) != 2 || list[0].Prompt == 0 || list[1].Gen == 0 {
		return figures{}, fmt.Errorf("weft bench gave %d results, not prefill and decode", len(list))
	}
	return figures{list[0].Rate, list[1].Rate, list[1].Share}, nil
}

// together is one sample of weft's decode with many sessions.
func (s *settings) together(ctx context.Context, file string, threads int) (float64, error) {
	list, err := s.bench(ctx, "-m", file, "-t", fmt.Sprint(threads), "-p", "0", "-n", fmt.Sprint(s.gen),
		"-d", fmt.Sprint(s.depth), "--parallel", fmt.Sprint(s.batch))
	if err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, fmt.Errorf("weft bench gave %d results, not one", len(list))
	}
	return list[0].Rate, nil
}

// inside runs a program of llama.cpp's system.
func (s *settings) inside(ctx context.Context, args ...string) ([]byte, error) {
	return command(ctx, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, "chroot", append([]string{s.root}, args...)...)
}

func (s *settings) llamaBench(ctx context.Context, model string, threads int) (figures, error) {
	out, err := s.inside(ctx, "llama-bench", "-m", model, "-t", fmt.Sprint(threads),
		"-p", fmt.Sprint(s.prompt), "-n", fmt.Sprint(s.gen), "-r", "1", "-o", "json")
	if err != nil {
		return figures{}, err
	}
	return parseLlamaBench(out)
}

func parseLlamaBench(out []byte) (figures, error) {
	var tests []struct {
		Prompt int     `json:"n_prompt"`
		Gen    int     `json:"n_gen"`
		Rate   float64 `json:"avg_ts"`
	}
	if err := json.Unmarshal(out, &tests); err != nil {
		return figures{}, fmt.Errorf("read the figures of llama-bench: %w", err)
	}
	var f figures
	for _, t := range tests {
		switch {
		case t.Prompt > 0 && t.Gen == 0:
			f.prefill = t.Rate
		case t.Gen > 0 && t.Prompt == 0:
			f.decode = t.Rate
		}
	}
	if f.prefill <= 0 || f.decode <= 0 {
		return f, errors.New("llama-bench gave no figure for prefill and decode")
	}
	return f, nil
}

func (s *settings) llamaBatched(ctx context.Context, model string, threads int) (float64, error) {
	out, err := s.inside(ctx, "llama-batched-bench", "-m", model, "-t", fmt.Sprint(threads),
		"-c", fmt.Sprint(s.batch*(s.depth+s.gen)+256), "-b", "2048", "-ub", "512",
		"-npp", fmt.Sprint(s.depth), "-ntg", fmt.Sprint(s.gen), "-npl", fmt.Sprint(s.batch), "--output-format", "jsonl")
	if err != nil {
		return 0, err
	}
	return parseBatched(out)
}

func parseBatched(out []byte) (float64, error) {
	for line := range strings.Lines(string(out)) {
		var r struct {
			Rate float64 `json:"speed_tg"`
		}
		if json.Unmarshal([]byte(line), &r) == nil && r.Rate > 0 {
			return r.Rate, nil
		}
	}
	return 0, errors.New("llama-batched-bench gave no figure for generation")
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
