package wire_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestAnExchangeCarriesMessagesAndBytes(t *testing.T) {
	for name, streams := range map[string]func(*testing.T) (wire.Stream, wire.Stream){
		"pipe":   func(*testing.T) (wire.Stream, wire.Stream) { return wire.PipeStream() },
		"libp2p": hosts,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := streams(t)
			ctx := context.Background()
			x, y := wire.NewExchange(ctx, a, 5*time.Second), wire.NewExchange(ctx, b, 5*time.Second)
			ask := &weftv1.WeightsRequest{Body: &weftv1.WeightsRequest_Manifest{Manifest: &weftv1.ManifestRequest{Model: []byte{1}}}}
			done := make(chan error, 1)
			go func() {
				var got weftv1.WeightsRequest
				err := y.Receive(&got)
				if err == nil && !proto.Equal(&got, ask) {
					err = errors.New("another request")
				}
				err = errors.Join(err, y.Send(&weftv1.WeightsReply{Size: 300_000}), y.SendRaw(make([]byte, 300_000)), y.Close())
				done <- err
			}()
			if err := x.Send(ask); err != nil {
				t.Fatal(err)
			}
			var reply weftv1.WeightsReply
			if err := x.Receive(&reply); err != nil || reply.Size != 300_000 {
				t.Fatal(&reply, err)
			}
			if err := x.ReceiveRaw(make([]byte, 300_000)); err != nil {
				t.Fatal(err)
			}
			if err := x.Receive(&reply); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnExchangeEndsWithItsDeadlineAndItsContext(t *testing.T) {
	a, b := wire.PipeStream()
	x := wire.NewExchange(context.Background(), a, 20*time.Millisecond)
	if err := x.Receive(&weftv1.PlanReply{}); err == nil {
		t.Error("received from nobody")
	}
	x.Abort()
	_ = b.Reset()

	a, b = wire.PipeStream()
	ctx, cancel := context.WithCancelCause(context.Background())
	x = wire.NewExchange(ctx, a, time.Minute)
	time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("enough")) })
	if err := x.Receive(&weftv1.PlanReply{}); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("error %v", err)
	}
	if x.Release() {
		t.Error("a stream whose context has ended was given back")
	}
	x.Abort()
	_ = b.Reset()

	a, b = wire.PipeStream()
	x = wire.NewExchange(context.Background(), a, 50*time.Millisecond)
	for i := range 100 { // the peer takes nothing
		if err := x.SendRaw(make([]byte, 1<<16)); err != nil {
			break
		} else if i == 99 {
			t.Error("a deaf peer was sent everything")
		}
	}
	if err := x.Send(&weftv1.PlanReply{Error: strings.Repeat("x", wire.MaxMessage)}); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("long message: %v", err)
	}
	x.Abort()
	_ = b.Close()
}

func FuzzExchange(f *testing.F) {
	m, _ := proto.Marshal(&weftv1.WeightsReply{Size: 3})
	f.Add(append([]byte{byte(len(m))}, m...))
	f.Add(binary.AppendUvarint(nil, wire.MaxMessage+1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 200_000 {
			return
		}
		near, far := wire.PipeStream()
		if _, err := far.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = far.Close()
		x := wire.NewExchange(context.Background(), near, time.Second)
		for {
			var r weftv1.WeightsReply
			if err := x.Receive(&r); err != nil {
				break
			}
		}
		x.Abort()
	})
}
