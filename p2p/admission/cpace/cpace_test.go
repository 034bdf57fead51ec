package cpace

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/gtank/ristretto255"
)

// unhex decodes what the draft prints over several lines.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Values of the test vectors for ristretto255 and SHA-512 in
// draft-irtf-cfrg-cpace, appendix B.
const (
	vectorCI  = "0b415f696e69746961746f720b425f726573706f6e646572"
	vectorSid = "7e4b4791d6a8ef019b936c79fb7f2c57"
	vectorGen = `11435061636552697374726574746f3235350850617373776f726464
		00000000000000000000000000000000000000000000000000000000
		00000000000000000000000000000000000000000000000000000000
		00000000000000000000000000000000000000000000000000000000
		00000000000000000000000000000000180b415f696e69746961746f
		720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f
		2c57`
	vectorG  = "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56"
	vectorYa = "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08"
	vectorYA = "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157"
	vectorYb = "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d"
	vectorYB = "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258"
	vectorIR = `b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dc
		ae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447`
	vectorS  = "7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05"
	vectorX  = "2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"
	vectorSX = "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e"
	vectorI1 = "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"
)

func input(t testing.TB) Input {
	return Input{Password: []byte("Password"), Channel: unhex(t, vectorCI), Session: unhex(t, vectorSid)}
}

func scalar(t testing.TB, s string) *ristretto255.Scalar {
	t.Helper()
	v, err := ristretto255.NewScalar().SetCanonicalBytes(unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if w := unhex(t, want); !bytes.Equal(got, w) {
		t.Errorf("%s is\n%x\nnot\n%x", what, got, w)
	}
}

func TestTheDraftsVectors(t *testing.T) {
	in := input(t)
	same(t, "generator string", generatorString(in), vectorGen)
	same(t, "generator", generator(in).Bytes(), vectorG)
	a, b := begin(in, []byte("ADa"), scalar(t, vectorYa)), begin(in, []byte("ADb"), scalar(t, vectorYb))
	same(t, "Ya", a.Share(), vectorYA)
	same(t, "Yb", b.Share(), vectorYB)
	ka, err := a.Initiate(b.Share(), []byte("ADb"))
	if err != nil {
		t.Fatal(err)
	}
	kb, err := b.Respond(a.Share(), []byte("ADa"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "initiator's key", ka.isk, vectorIR)
	same(t, "responder's key", kb.isk, vectorIR)
	x, err := ristretto255.NewIdentityElement().SetCanonicalBytes(unhex(t, vectorX))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "s·X", ristretto255.NewIdentityElement().ScalarMult(scalar(t, vectorS), x).Bytes(), vectorSX)
}

func TestTheDraftsStringVectors(t *testing.T) {
	long := make([]byte, 128)
	for i := range long {
		long[i] = byte(i)
	}
	same(t, "empty", prependLen(nil, nil), "00")
	same(t, "four", prependLen(nil, []byte("1234")), "0431323334")
	same(t, "127", prependLen(nil, long[:127]), "7f"+hex.EncodeToString(long[:127]))
	same(t, "128", prependLen(nil, long), "8001"+hex.EncodeToString(long))
	same(t, "lv_cat", concat([]byte("1234"), []byte("5"), nil, []byte("678")), "043132333401350003363738")
}

func TestInvalidSharesEndTheExchange(t *testing.T) {
	for name, share := range map[string][]byte{
		"not an element": unhex(t, vectorI1), "the neutral element": make([]byte, 32), "nothing": nil,
		"too short": unhex(t, vectorX)[:31], "too long": append(unhex(t, vectorX), 0),
	} {
		if _, err := New(input(t), nil).Initiate(share, nil); !errors.Is(err, ErrShare) {
			t.Errorf("initiator, %s: %v", name, err)
		}
		if _, err := New(input(t), nil).Respond(share, nil); !errors.Is(err, ErrShare) {
			t.Errorf("responder, %s: %v", name, err)
		}
	}
}

func TestKeysAgreeOnlyOnTheSameInputs(t *testing.T) {
	in := Input{Password: []byte("code"), Channel: []byte("ab"), Session: []byte("s1")}
	run := func(a, b Input, adA, adB, seenA, seenB string) bool {
		pa, pb := New(a, []byte(adA)), New(b, []byte(adB))
		ka, err := pa.Initiate(pb.Share(), []byte(seenB))
		if err != nil {
			t.Fatal(err)
		}
		kb, err := pb.Respond(pa.Share(), []byte(seenA))
		if err != nil {
			t.Fatal(err)
		}
		agree := ka.Confirm(kb.Tag())
		if agree != kb.Confirm(ka.Tag()) || agree != bytes.Equal(ka.Derive("x"), kb.Derive("x")) {
			t.Error("the two sides differ about agreeing")
		}
		if bytes.Equal(ka.Derive("x"), ka.Derive("y")) || ka.Confirm(ka.Tag()) {
			t.Error("a key for two purposes, or a reflected tag is good")
		}
		return agree
	}
	if !run(in, in, "A", "B", "A", "B") {
		t.Error("equal inputs do not agree")
	}
	password, channel, session := in, in, in
	password.Password, channel.Channel, session.Session = []byte("cod"), []byte("ba"), []byte("s2")
	for name, agree := range map[string]bool{
		"password": run(in, password, "A", "B", "A", "B"), "channel": run(in, channel, "A", "B", "A", "B"),
		"session": run(in, session, "A", "B", "A", "B"), "initiator's data": run(in, in, "A", "B", "X", "B"),
		"responder's data": run(in, in, "A", "B", "A", "X"),
	} {
		if agree {
			t.Errorf("another %s agrees", name)
		}
	}
}

func TestSharesOfOneCodeDiffer(t *testing.T) {
	if a, b := New(input(t), nil), New(input(t), nil); bytes.Equal(a.Share(), b.Share()) {
		t.Error("a secret was used twice")
	}
}

func FuzzRespond(f *testing.F) {
	f.Add(unhex(f, vectorYA), []byte("ADa"))
	f.Add(unhex(f, vectorI1), []byte{})
	f.Fuzz(func(t *testing.T, share, data []byte) {
		p := New(input(t), nil)
		k, err := p.Respond(share, data)
		if err == nil && (k.Confirm(nil) || k.Confirm(data) || len(k.Tag()) != TagSize || len(share) != ShareSize) {
			t.Fatal("a key that confirms what nobody made")
		}
	})
}
