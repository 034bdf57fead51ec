package machine

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// processors are files of a machine whose cores have the given siblings.
func processors(allowed string, siblings ...string) fstest.MapFS {
	root := fstest.MapFS{"proc/self/status": &fstest.MapFile{Data: []byte("Name:\tweft\nCpus_allowed:\tff\nCpus_allowed_list:\t" + allowed + "\nMems_allowed_list:\t0\n")}}
	for n, list := range siblings {
		root[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/core_cpus_list", n)] = &fstest.MapFile{Data: []byte(list + "\n")}
	}
	return root
}

func with(root fstest.MapFS, files map[string]string) fstest.MapFS {
	for name, text := range files {
		root["sys/devices/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return root
}

func TestCoresAreCountedAsWorkIsSharedOut(t *testing.T) {
	capacity := func(list ...string) map[string]string {
		files := map[string]string{}
		for n, c := range list {
			files[fmt.Sprintf("system/cpu/cpu%d/cpu_capacity", n)] = c
		}
		return files
	}
	older := processors("0-1")
	older["sys/devices/system/cpu/cpu0/topology/thread_siblings_list"] = &fstest.MapFile{Data: []byte("0-1\n")}
	older["sys/devices/system/cpu/cpu1/topology/thread_siblings_list"] = &fstest.MapFile{Data: []byte("0-1\n")}
	for name, tc := range map[string]struct {
		root fstest.MapFS
		want int
	}{
		"two cores":                    {processors("0-1", "0", "1"), 2},
		"two threads a core":           {processors("0-3", "0,2", "1,3", "0,2", "1,3"), 2},
		"bound to one core's threads":  {processors("0,2", "0,2", "1,3", "0,2", "1,3"), 1},
		"bound to two cores":           {processors("0-1", "0,2", "1,3", "0,2", "1,3"), 2},
		"Intel's two kinds":            {with(processors("0-5", "0-1", "0-1", "2-3", "2-3", "4", "5"), map[string]string{"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-5"}), 2},
		"bound to the efficiency ones": {with(processors("4-5", "0-1", "0-1", "2-3", "2-3", "4", "5"), map[string]string{"cpu_core/cpus": "0-3"}), 2},
		"three kinds on arm64":         {with(processors("0-3", "0", "1", "2", "3"), capacity("250", "250", "800", "1024")), 2},
		"all alike on arm64":           {with(processors("0-1", "0", "1"), capacity("1024", "1024")), 2},
		"capacity of some":             {with(processors("0-1", "0", "1"), capacity("1024")), 2},
		"an older kernel":              {older, 1},
		"nothing told":                 {fstest.MapFS{}, 0},
		"nonsense":                     {processors("0-99999999999", "0"), 0},
		"a list without end":           {processors(strings.Repeat("0-4000,", 100), "0"), 0},
	} {
		if got := performanceCores(tc.root); got != tc.want {
			t.Errorf("%s: %d cores, want %d", name, got, tc.want)
		}
	}
}

func FuzzProcessorList(f *testing.F) {
	for _, s := range []string{"0-3,8,10-11", "", "7", "3-1", "-", "0-", "0-4095", strings.Repeat("1,", 5000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := processorList(s)
		if len(list) > maxProcessors {
			t.Fatalf("%d processors", len(list))
		}
		for _, n := range list {
			if n < 0 || n >= maxProcessors {
				t.Fatalf("processor %d", n)
			}
		}
	})
}
