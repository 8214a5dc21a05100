// Package main says what an API server of the Kubernetes version in go.mod finds wrong with ValidatingAdmissionPolicies: it
// reads manifests from standard input, validates each policy as on create, and checks the types of its expressions. No
// cluster is needed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/kubernetes/scheme"
	internal "k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
	"k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/yaml"
)

func main() {
	faults, count, err := check(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-policies:", err)
		os.Exit(2)
	}
	for _, fault := range faults {
		fmt.Println(fault)
	}
	fmt.Printf("%d policies, %d faults\n", count, len(faults))
	if len(faults) > 0 || count == 0 {
		os.Exit(1)
	}
}

func check(manifests io.Reader) (faults []string, count int, err error) {
	checker := &validating.TypeChecker{
		SchemaResolver: resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, scheme.Scheme),
		RestMapper:     testrestmapper.TestOnlyStaticRESTMapper(scheme.Scheme),
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(manifests))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return faults, count, nil
		}
		if err != nil {
			return nil, 0, err
		}
		policy := &admissionregistration.ValidatingAdmissionPolicy{}
		if err := yaml.Unmarshal(document, &policy.TypeMeta); err != nil {
			return nil, 0, err
		}
		if policy.Kind != "ValidatingAdmissionPolicy" {
			continue
		}
		if err := yaml.UnmarshalStrict(document, policy); err != nil {
			return nil, 0, err
		}
		count++
		legacyscheme.Scheme.Default(policy)
		converted := &internal.ValidatingAdmissionPolicy{}
		if err := legacyscheme.Scheme.Convert(policy, converted, nil); err != nil {
			return nil, 0, err
		}
		converted.Namespace = ""
		for _, fault := range validation.ValidateValidatingAdmissionPolicy(converted) {
			faults = append(faults, fmt.Sprintf("%s: %s", policy.Name, fault))
		}
		for _, warning := range checker.Check(policy) {
			faults = append(faults, fmt.Sprintf("%s: %s: %s", policy.Name, warning.FieldRef, warning.Warning))
		}
	}
}
