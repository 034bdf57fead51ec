// Command gen turns the .proto files under a root into Go, without protoc: it
// compiles them with protocompile and hands the descriptors to the code that
// protoc-gen-go itself runs. It has a go.mod of its own, so that the compiler
// stays out of the product's module graph.
//
//	go -C proto/gen run . -root ..
//
// Output lies beside each source file. The order of files and the text are a
// function of the sources alone, so a second run leaves no difference.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	root := flag.String("root", "..", "directory that import paths of the sources start at")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run generates every source file under root.
func run(root string) error {
	names, err := sources(root)
	if err != nil {
		return err
	}
	req, err := compile(root, names)
	if err != nil {
		return err
	}
	plugin, err := protogen.Options{}.New(req)
	if err != nil {
		return fmt.Errorf("read descriptors: %w", err)
	}
	plugin.SupportedFeatures = internal_gengo.SupportedFeatures
	for _, f := range plugin.Files {
		if f.Generate {
			internal_gengo.GenerateFile(plugin, f)
		}
	}
	return write(root, plugin.Response())
}

// sources lists the .proto files under root, as import paths, sorted.
func sources(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		rel, err := filepath.Rel(root, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for .proto files: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no .proto files under %s", root)
	}
	slices.Sort(names)
	return names, nil
}

// compile parses and links names and builds the request that protoc would send
// to its plugin.
func compile(root string, names []string) (*pluginpb.CodeGeneratorRequest, error) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := c.Compile(context.Background(), names...)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: names, Parameter: proto.String("paths=source_relative")}
	seen := map[string]bool{}
	for _, f := range files {
		req.ProtoFile = appendFile(req.ProtoFile, f, seen)
	}
	return req, nil
}

// appendFile adds f after everything that it imports.
func appendFile(out []*descriptorpb.FileDescriptorProto, f protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[f.Path()] {
		return out
	}
	seen[f.Path()] = true
	imports := f.Imports()
	for i := range imports.Len() {
		out = appendFile(out, imports.Get(i).FileDescriptor, seen)
	}
	return append(out, protodesc.ToFileDescriptorProto(f))
}

// write puts the generated files below root.
func write(root string, resp *pluginpb.CodeGeneratorResponse) error {
	if resp.Error != nil {
		return errors.New(resp.GetError())
	}
	for _, f := range resp.File {
		path := filepath.Join(root, filepath.FromSlash(f.GetName()))
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return fmt.Errorf("write generated file: %w", err)
		}
	}
	return nil
}
