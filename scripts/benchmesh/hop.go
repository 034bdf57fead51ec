package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// hopRounds are the round trips of one sample.
const hopRounds = 1000

// hopSizes are a token, a hidden state of 1,024 elements, and one of 4,096.
var hopSizes = []int{64, 4 << 10, 16 << 10}

// hops measures what a hop costs above bare TCP: two processes, three echoes in
// turn (TCP, a libp2p stream, a wire link), half of the median round trip.
func (b *bench) hops(ctx context.Context) error {
	p, err := b.startPair(ctx, "hop")
	if err != nil {
		return err
	}
	defer p.stop()
	var rows [][]string
	for _, size := range hopSizes {
		var tcp, stream, link series
		for i := range b.times + 1 {
			var us [3]float64
			for k, e := range []echo{p.tcp, p.stream, p.link} {
				if us[k], err = oneWay(ctx, e, size); err != nil {
					return err
				}
			}
			if i > 0 { // the first time warms up
				tcp, stream, link = append(tcp, us[0]), append(stream, us[1]), append(link, us[2])
			}
		}
		rows = append(rows, []string{
			fmt.Sprintf("%d B", size), tcp.cell(1), stream.cell(1), link.cell(1), stream.minus(tcp).cell(1), link.minus(stream).cell(1), link.minus(tcp).cell(1),
		})
	}
	b.report.add(section{
		title: "A hop, in microseconds one way",
		note: fmt.Sprintf("Half of a round trip between two processes on loopback, each sample the median of %d; three echoes in turn: bare TCP, a stream of p2p/host (TCP, TLS, yamux), and a run frame with that payload over p2p/wire on such a stream. "+
			"The last column is what a hop of weft costs above bare TCP.", hopRounds),
		head: []string{"payload", "TCP", "stream", "wire", "stream − TCP", "wire − stream", "wire − TCP"},
		rows: rows,
	})
	return nil
}

// echo sends a payload to the other process and waits until it is back.
type echo interface{ round(payload []byte) error }

// oneWay is half of the median round trip in microseconds.
func oneWay(ctx context.Context, e echo, size int) (float64, error) {
	payload := make([]byte, size)
	took := make([]time.Duration, hopRounds)
	for i := range took {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := e.round(payload); err != nil {
			return 0, fmt.Errorf("echo of %d bytes: %w", size, err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return float64(took[hopRounds/2].Nanoseconds()) / 2000, nil
}

// byteEcho is an echo over a stream of bytes: a length ahead, so that the far
// side knows how much to collect, and one write for both.
type byteEcho struct {
	stream io.ReadWriteCloser
	buf    []byte
}

func (e *byteEcho) round(payload []byte) error {
	e.buf = binary.LittleEndian.AppendUint32(e.buf[:0], uint32(len(payload)))
	e.buf = append(e.buf, payload...)
	if _, err := e.stream.Write(e.buf); err != nil {
		return err
	}
	_, err := io.ReadFull(e.stream, e.buf)
	return err
}

// pullBit in the length asks for that many bytes instead of sending them.
const pullBit = 1 << 31

// pull asks for len(b) bytes and reads them.
func (e *byteEcho) pull(b []byte) error {
	e.buf = binary.LittleEndian.AppendUint32(e.buf[:0], uint32(len(b))|pullBit)
	if _, err := e.stream.Write(e.buf); err != nil {
		return err
	}
	_, err := io.ReadFull(e.stream, b)
	return err
}

// linkEcho is an echo of frames as they run between stages.
type linkEcho struct{ wire.Link }

func (e linkEcho) round(payload []byte) error {
	if err := e.Send(hopFrame(), payload); err != nil {
		return err
	}
	_, back, err := e.Recv()
	if err == nil && len(back) != len(payload) {
		err = fmt.Errorf("%d bytes came back", len(back))
	}
	return err
}

// hopFrame is a decode run's header.
func hopFrame() *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{Session: make([]byte, 16), Epoch: 1, Base: 512, Tokens: []uint32{4711}, Sample: 1}}}
}

// maxEcho bounds what the far side collects.
const maxEcho = 1 << 20

// echoBytes sends back what comes until the stream ends.
func echoBytes(s io.ReadWriteCloser) {
	defer s.Close()
	buf := make([]byte, 4+maxEcho)
	for {
		if _, err := io.ReadFull(s, buf[:4]); err != nil {
			return
		}
		n := binary.LittleEndian.Uint32(buf)
		pulled := n&pullBit != 0
		if n &^= pullBit; n > maxEcho {
			return
		}
		if pulled {
			if _, err := s.Write(buf[4 : 4+n]); err != nil {
				return
			}
			continue
		}
		if _, err := io.ReadFull(s, buf[4:4+n]); err != nil {
			return
		}
		if _, err := s.Write(buf[:4+n]); err != nil {
			return
		}
	}
}

// echoFrames sends back what comes until the link ends.
func echoFrames(l wire.Link) {
	for {
		f, payload, err := l.Recv()
		if err == nil {
			err = l.Send(f, payload)
		}
		if err != nil {
			l.Close(err)
			<-l.Done()
			return
		}
	}
}
