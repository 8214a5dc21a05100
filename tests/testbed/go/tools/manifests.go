package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
)

// savedManifest is a PUT of a manifest, as it was made.
type savedManifest struct {
	Path        string `json:"path"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

// manifestStore writes manifests down, which the registry keeps in memory only, so that a registry that was
// stopped knows its images when it is started again.
type manifestStore struct {
	next http.Handler
	dir  string

	mu    sync.Mutex
	saved int
}

// keepManifests puts the manifests that an earlier run saved, and saves those to come.
func keepManifests(dir string, next http.Handler) (*manifestStore, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	store := &manifestStore{next: next, dir: dir}
	for ; ; store.saved++ {
		content, err := os.ReadFile(store.path(store.saved))
		if os.IsNotExist(err) {
			return store, nil
		}
		if err != nil {
			return nil, err
		}
		var manifest savedManifest
		if err := json.Unmarshal(content, &manifest); err != nil {
			return nil, fmt.Errorf("%s: %w", store.path(store.saved), err)
		}
		request := httptest.NewRequest(http.MethodPut, manifest.Path, bytes.NewReader(manifest.Body))
		request.Header.Set("Content-Type", manifest.ContentType)
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, request)
		if answer.Code != http.StatusCreated {
			return nil, fmt.Errorf("%s: %d: %s", manifest.Path, answer.Code, answer.Body)
		}
	}
}

// path of the manifest that was saved as the n-th; their order is kept, as an index comes after its parts.
func (s *manifestStore) path(n int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%06d.json", n))
}

func (s *manifestStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, kind, _, ok := splitPath(r.URL.Path); !ok || kind != "manifests" || r.Method != http.MethodPut {
		s.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	content, err := json.Marshal(savedManifest{r.URL.Path, r.Header.Get("Content-Type"), body})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	s.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusCreated {
		// Saved before it is answered: who was told that a push worked can rely on it.
		if err := s.save(content); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (s *manifestStore) save(content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Renamed when whole: a registry that is killed leaves no half manifest.
	path := s.path(s.saved)
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	s.saved++
	return os.Rename(path+".new", path)
}
