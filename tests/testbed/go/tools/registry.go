package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"
)

// writeChunk is how much of a body is written at once under a bandwidth limit: small enough that the
// limit is smooth, large enough that it costs nothing.
const writeChunk = 64 << 10

// request is what the registry remembers of the requests for one thing by one node.
type request struct {
	// Node is the address that was dialled: each node has a loopback address of its own for the registry.
	Node       string    `json:"node"`
	Method     string    `json:"method"`
	Repository string    `json:"repository"`
	Kind       string    `json:"kind"`
	Reference  string    `json:"reference"`
	Count      int       `json:"count"`
	Bytes      int64     `json:"bytes"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}

type requestKey struct{ node, method, repository, kind, reference string }

// meter counts requests and limits bandwidth, per node.
type meter struct {
	next http.Handler

	mu       sync.Mutex
	requests map[requestKey]*request
	limits   map[string]*rate.Limiter
}

func newMeter(next http.Handler) *meter {
	return &meter{next: next, requests: map[requestKey]*request{}, limits: map[string]*rate.Limiter{}}
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node := dialled(r)
	writer := &meteredWriter{ResponseWriter: w, ctx: r.Context(), limit: func() *rate.Limiter { return m.limit(node) }}
	if repository, kind, reference, ok := splitPath(r.URL.Path); ok {
		key := requestKey{node, r.Method, repository, kind, reference}
		now := time.Now()
		m.mu.Lock()
		entry := m.requests[key]
		if entry == nil {
			entry = &request{Node: node, Method: r.Method, Repository: repository, Kind: kind, Reference: reference, First: now}
			m.requests[key] = entry
		}
		entry.Count++
		m.mu.Unlock()
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			entry.Bytes += writer.written
			entry.Last = time.Now()
		}()
	}
	m.next.ServeHTTP(writer, r)
}

func (m *meter) limit(node string) *rate.Limiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if limit, ok := m.limits[node]; ok {
		return limit
	}
	return m.limits[""]
}

// serveRequests lists what was counted; DELETE forgets it.
func (m *meter) serveRequests(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Method == http.MethodDelete {
		clear(m.requests)
		return
	}
	list := make([]*request, 0, len(m.requests))
	for _, entry := range m.requests {
		list = append(list, entry)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

// serveBandwidth sets a limit: PUT ?node=ADDRESS&bytes-per-second=N. No node means every node without a
// limit of its own (each with its own share); 0 bytes means no limit. It holds for the rest of what is under
// way too.
func (m *meter) serveBandwidth(w http.ResponseWriter, r *http.Request) {
	bytes, err := strconv.Atoi(r.URL.Query().Get("bytes-per-second"))
	if err != nil || bytes < 0 || r.Method != http.MethodPut {
		http.Error(w, "want PUT ?node=ADDRESS&bytes-per-second=N", http.StatusBadRequest)
		return
	}
	var limit *rate.Limiter
	if bytes > 0 {
		limit = rate.NewLimiter(rate.Limit(bytes), max(writeChunk, bytes/10))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limits[r.URL.Query().Get("node")] = limit
}

type meteredWriter struct {
	http.ResponseWriter
	ctx     context.Context
	limit   func() *rate.Limiter
	written int64
}

func (w *meteredWriter) Write(body []byte) (int, error) {
	total := 0
	for len(body) > 0 {
		chunk := body[:min(len(body), writeChunk)]
		if limit := w.limit(); limit != nil {
			if err := limit.WaitN(w.ctx, len(chunk)); err != nil {
				return total, err
			}
		}
		n, err := w.ResponseWriter.Write(chunk)
		total += n
		w.written += int64(n)
		if err != nil {
			return total, err
		}
		body = body[n:]
	}
	return total, nil
}

// dialled is the local address of the connection.
func dialled(r *http.Request) string {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return address.String()
	}
	return parsed.Addr().Unmap().String()
}

// splitPath takes /v2/REPOSITORY/{manifests,blobs}/REFERENCE apart.
func splitPath(path string) (repository, kind, reference string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", "", false
	}
	for _, kind := range []string{"manifests", "blobs"} {
		if at := strings.LastIndex(rest, "/"+kind+"/"); at >= 0 {
			return rest[:at], kind, rest[at+len(kind)+2:], true
		}
	}
	return "", "", "", false
}

// basicAuth answers 401 in the registry's way unless the request carries the credentials.
func basicAuth(username, password string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(u+"\x00"+p), []byte(username+"\x00"+password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="testbed"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newRegistryCommand serves a registry on loopback addresses, one per node, over plain HTTP.
//
//	/v2/...             the registry
//	/testbed/requests   what was asked for, by which node
//	/testbed/bandwidth  limits
func newRegistryCommand() *cobra.Command {
	var listen []string
	var dir, username, password string
	command := &cobra.Command{
		Use:  "registry",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			blobs := filepath.Join(dir, "blobs")
			if err := os.MkdirAll(blobs, 0o755); err != nil {
				return err
			}
			memory := registry.New(
				registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
				registry.Logger(log.New(io.Discard, "", 0)),
			)
			var images http.Handler
			images, err := keepManifests(filepath.Join(dir, "manifests"), memory)
			if err != nil {
				return err
			}
			if username != "" {
				images = basicAuth(username, password, images)
			}
			meter := newMeter(images)
			mux := http.NewServeMux()
			mux.Handle("/v2/", meter)
			mux.HandleFunc("/testbed/requests", meter.serveRequests)
			mux.HandleFunc("/testbed/bandwidth", meter.serveBandwidth)

			server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
			failed := make(chan error, len(listen))
			for _, address := range listen {
				listener, err := net.Listen("tcp", address)
				if err != nil {
					return fmt.Errorf("--listen: %w", err)
				}
				go func() { failed <- server.Serve(listener) }()
			}
			select {
			case <-command.Context().Done():
				return server.Close()
			case err := <-failed:
				if errors.Is(err, http.ErrServerClosed) {
					return nil
				}
				return err
			}
		},
	}
	command.Flags().StringSliceVar(&listen, "listen", nil, "addresses to listen on, one per node")
	command.Flags().StringVar(&dir, "data-dir", "", "directory of the blobs and manifests")
	command.Flags().StringVar(&username, "username", "", "require basic auth with this name")
	command.Flags().StringVar(&password, "password", "", "and this password")
	_ = command.MarkFlagRequired("listen")
	_ = command.MarkFlagRequired("data-dir")
	return command
}
