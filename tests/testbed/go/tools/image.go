package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"
)

// imageSpec describes an image, from scratch.
type imageSpec struct {
	Reference    string `json:"reference"`
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	// Index puts the image into an index, as its only platform.
	Index      bool        `json:"index,omitempty"`
	User       string      `json:"user,omitempty"`
	Entrypoint []string    `json:"entrypoint,omitempty"`
	Cmd        []string    `json:"cmd,omitempty"`
	Env        []string    `json:"env,omitempty"`
	Layers     []layerSpec `json:"layers"`
}

// layerSpec is one layer: its files, in order.
type layerSpec struct {
	Files []fileSpec `json:"files,omitempty"`
	// Tree copies a directory of the machine, up to TreeBytes of regular files.
	Tree      string `json:"tree,omitempty"`
	TreeBytes int64  `json:"treeBytes,omitempty"`
	// RandomBytes adds a file that does not compress; Seed makes it the same every time.
	RandomBytes int64  `json:"randomBytes,omitempty"`
	Seed        uint64 `json:"seed,omitempty"`
}

// fileSpec is one regular file, its content given or read from a file of the machine.
type fileSpec struct {
	Path    string `json:"path"`
	Content string `json:"content,omitempty"`
	Source  string `json:"source,omitempty"`
	Mode    int64  `json:"mode"`
}

// newImageCommand builds the image that standard input describes, pushes it, and prints its digest.
func newImageCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "image",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var spec imageSpec
			decoder := json.NewDecoder(command.InOrStdin())
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&spec); err != nil {
				return fmt.Errorf("image description on standard input: %w", err)
			}
			digest, err := push(spec)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(command.OutOrStdout(), digest)
			return err
		},
	}
}

func push(spec imageSpec) (v1.Hash, error) {
	reference, err := name.ParseReference(spec.Reference, name.Insecure)
	if err != nil {
		return v1.Hash{}, err
	}
	scratch, err := os.MkdirTemp("", "testbed-image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(scratch)

	image, err := build(spec, scratch)
	if err != nil {
		return v1.Hash{}, err
	}
	auth := authn.Anonymous
	if spec.Username != "" {
		auth = &authn.Basic{Username: spec.Username, Password: spec.Password}
	}
	if !spec.Index {
		if err := remote.Write(reference, image, remote.WithAuth(auth)); err != nil {
			return v1.Hash{}, err
		}
		return image.Digest()
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add:        image,
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: spec.OS, Architecture: spec.Architecture}},
	})
	if err := remote.WriteIndex(reference, index, remote.WithAuth(auth)); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

func build(spec imageSpec, scratch string) (v1.Image, error) {
	image := empty.Image
	for i, layer := range spec.Layers {
		path := filepath.Join(scratch, fmt.Sprintf("%d.tar", i))
		if err := writeLayer(path, layer); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		added, err := tarball.LayerFromFile(path, tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		if image, err = mutate.AppendLayers(image, added); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = spec.OS, spec.Architecture
	config.Config.User = spec.User
	config.Config.Entrypoint = spec.Entrypoint
	config.Config.Cmd = spec.Cmd
	config.Config.Env = spec.Env
	return mutate.ConfigFile(image, config)
}

func writeLayer(path string, layer layerSpec) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	writer := tar.NewWriter(file)
	for _, f := range layer.Files {
		if err := addFile(writer, f); err != nil {
			return err
		}
	}
	if layer.Tree != "" {
		if err := addTree(writer, layer.Tree, layer.TreeBytes); err != nil {
			return err
		}
	}
	if layer.RandomBytes > 0 {
		var seed [32]byte
		for i := range 8 {
			seed[i] = byte(layer.Seed >> (8 * i))
		}
		header := &tar.Header{Name: fmt.Sprintf("random-%d", layer.Seed), Mode: 0o644, Size: layer.RandomBytes, ModTime: time.Unix(0, 0)}
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.CopyN(writer, rand.NewChaCha8(seed), layer.RandomBytes); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return file.Close()
}

func addFile(writer *tar.Writer, spec fileSpec) error {
	content := []byte(spec.Content)
	if spec.Source != "" {
		var err error
		if content, err = os.ReadFile(spec.Source); err != nil {
			return err
		}
	}
	header := &tar.Header{
		Name:    strings.TrimPrefix(spec.Path, "/"),
		Mode:    spec.Mode,
		Size:    int64(len(content)),
		ModTime: time.Unix(0, 0),
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(content)
	return err
}

// errTreeFull ends the walk when the layer has its size.
var errTreeFull = errors.New("tree full")

func addTree(writer *tar.Writer, root string, limit int64) error {
	var size int64
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if limit > 0 && size+info.Size() > limit {
			return errTreeFull
		}
		size += info.Size()
		return addFile(writer, fileSpec{Path: path, Source: path, Mode: int64(info.Mode().Perm())})
	})
	if errors.Is(err, errTreeFull) {
		return nil
	}
	return err
}
