package discovery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/weft-mesh/weft/p2p/admission"
)

const (
	// rendezvousTime is how long a meeting point lasts: long enough for what a
	// DHT keeps, short enough that whoever sees members come there cannot tell
	// tomorrow that it is the same mesh.
	rendezvousTime  = 6 * time.Hour
	rendezvousLabel = "weft rendezvous v1\x00"
)

// rendezvous returns the meeting points of a mesh at that time: the present
// one, and beside it the next or the last where a clock that is an hour off is
// there already or still. To anybody without the mesh's secret they are random
// numbers that have nothing to do with each other.
func rendezvous(secret admission.Secret, now time.Time) ([]cid.Cid, error) {
	var out []cid.Cid
	for _, at := range []time.Time{now, now.Add(-admission.ClockSkew), now.Add(admission.ClockSkew)} {
		h := hmac.New(sha256.New, secret[:])
		h.Write([]byte(rendezvousLabel))
		_ = binary.Write(h, binary.BigEndian, at.Unix()/int64(rendezvousTime/time.Second))
		sum, err := multihash.Encode(h.Sum(nil), multihash.SHA2_256)
		if err != nil {
			return nil, fmt.Errorf("rendezvous: %w", err)
		}
		if c := cid.NewCidV1(cid.Raw, sum); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}
