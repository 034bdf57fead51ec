package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// permanent is an error that trying again would not change.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// later is a server's wish to be left alone for some time.
type later struct {
	error
	wait time.Duration
}

func (l later) Unwrap() error { return l.error }

const maxWait = 30 * time.Second

// retry runs try until it succeeds, fails for good or has failed too often.
func (c *Client) retry(ctx context.Context, try func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		limited, cancel := context.WithTimeoutCause(ctx, 2*c.opt.Stall, errStall)
		err := try(limited)
		cause := context.Cause(limited)
		cancel()
		if err == nil {
			return nil
		}
		if errors.Is(cause, errStall) {
			err = errStall
		}
		if err := c.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt, or gives the error that ends all attempts.
func (c *Client) pause(ctx context.Context, attempt int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var p permanent
	if errors.As(err, &p) {
		return p.error
	}
	if attempt >= c.opt.Retries {
		return fmt.Errorf("gave up after %d attempts: %w; run the command again to go on", attempt, err)
	}
	wait := min(c.opt.Backoff<<min(attempt-1, 10), maxWait)
	wait += time.Duration(rand.Int64N(int64(wait)/4 + 1)) // so that many nodes do not come back at once
	var l later
	if errors.As(err, &l) {
		wait = max(wait, l.wait)
	}
	c.opt.Logger.Info("download is tried again", "error", err, "wait", wait)
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// status turns an answer that is no success into an error.
func (c *Client) status(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		if c.opt.Token == "" {
			return permanent{fmt.Errorf("%w (%s); if the model is private or gated, accept its licence there and set HF_TOKEN", ErrDenied, resp.Status)}
		}
		return permanent{fmt.Errorf("%w (%s) with the token in HF_TOKEN; has it expired, or was the model's licence not accepted?", ErrDenied, resp.Status)}
	case code == http.StatusNotFound || code == http.StatusGone:
		return permanent{fmt.Errorf("%w (%s); check the spelling", ErrNotFound, resp.Status)}
	case code == http.StatusTooManyRequests || code >= 500:
		err := fmt.Errorf("the server answers %s", resp.Status)
		if s, aerr := strconv.Atoi(resp.Header.Get("Retry-After")); aerr == nil && s > 0 {
			return later{err, min(time.Duration(s)*time.Second, 2*maxWait)}
		}
		return err
	default:
		return permanent{fmt.Errorf("the server answers %s", resp.Status)}
	}
}
