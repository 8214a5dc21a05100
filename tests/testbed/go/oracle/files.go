package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	// An object or a document that kubectl, or the API server, does not take; kubectl reads on.
	broken = "broken"
	// kubectl reads no further.
	unreadable = "unreadable"
)

// fileQuestion is a file, and what headstart reads in it: each a Deployment, or one of the words above.
type fileQuestion struct {
	Bytes []byte            `json:"bytes"`
	Read  []json.RawMessage `json:"read"`
}

var deserializer = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme).UniversalDeserializer()
}()

// file compares what headstart reads in a file with what kubectl reads and the API server then understands. Values are
// compared as typed objects, so that 500m and 0.5 are the same, and nil and empty.
func file(asked fileQuestion) answer {
	var reply answer
	theirs := readings(asked.Bytes)
	for index, reading := range theirs {
		word, isWord := reading.(string)
		if !isWord {
			word = "Deployment"
		}
		reply.Readings = append(reply.Readings, word)
		if isWord || index >= len(asked.Read) {
			continue
		}
		ours, _, err := deserializer.Decode(asked.Read[index], nil, nil)
		if err != nil {
			reply.Difference = fmt.Sprintf("%v in %s", err, asked.Read[index])
			return reply
		}
		if !equality.Semantic.DeepEqual(withSelector(ours), withSelector(reading)) {
			stored, err := json.Marshal(reading)
			reply.Difference = fmt.Sprintf("%s, not %s (%v)", stored, asked.Read[index], err)
			return reply
		}
	}
	return reply
}

// withSelector fills in the field that headstart's type requires; without it no API server takes the object.
func withSelector(object any) any {
	if deployment, is := object.(*appsv1.Deployment); is && deployment.Spec.Selector == nil {
		deployment.Spec.Selector = &metav1.LabelSelector{}
	}
	return object
}

// readings reads as cli-runtime's resource builder does for `kubectl create -f`, with Flatten and ContinueOnError.
func readings(file []byte) (found []any) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(file), 4096)
	for {
		extension := runtime.RawExtension{}
		if err := decoder.Decode(&extension); err != nil {
			if errors.Is(err, io.EOF) {
				return found
			}
			return append(found, unreadable)
		}
		raw := bytes.TrimSpace(extension.Raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		object, _, err := unstructured.UnstructuredJSONScheme.Decode(raw, nil, nil)
		if err != nil {
			found = append(found, broken)
			continue
		}
		for _, object := range flatten(object) {
			if reading := understand(object); reading != nil {
				found = append(found, reading)
			}
		}
	}
}

// flatten takes lists apart, nested ones last.
func flatten(object runtime.Object) (objects []runtime.Object) {
	queue := []runtime.Object{object}
	for i := 0; i < len(queue); i++ {
		if !meta.IsListType(queue[i]) {
			objects = append(objects, queue[i])
			continue
		}
		items, err := meta.ExtractList(queue[i])
		if err != nil {
			objects = append(objects, queue[i])
			continue
		}
		queue = append(queue, items...)
	}
	return objects
}

// understand returns a Deployment, or that it is broken, or nil for other kinds.
func understand(object runtime.Object) any {
	kind := object.GetObjectKind().GroupVersionKind()
	if kind.Kind == "" {
		return broken
	}
	if kind != appsv1.SchemeGroupVersion.WithKind("Deployment") {
		return nil
	}
	sent, err := runtime.Encode(unstructured.UnstructuredJSONScheme, object)
	if err != nil {
		return broken
	}
	stored, _, err := deserializer.Decode(sent, nil, nil)
	if err != nil {
		return broken
	}
	return stored
}
