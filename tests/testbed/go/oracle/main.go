// Package main answers as Kubernetes' own libraries do: one JSON case a line on standard input, one JSON answer a
// line on standard output, in the same order. headstart's differential tests ask it.
package main

import (
	"bufio"
	"bytes"
	_ "crypto/sha256" // a digest whose algorithm is not linked in is refused; containerd has them all
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// question has exactly one field set.
type question struct {
	Image       *string              `json:"image"`
	Selector    *selectorQuestion    `json:"selector"`
	Affinity    *affinityQuestion    `json:"affinity"`
	Tolerations *tolerationsQuestion `json:"tolerations"`
	Restricted  *v1.Pod              `json:"restricted"`
	File        *fileQuestion        `json:"file"`
	Fit         *fitQuestion         `json:"fit"`
}

type selectorQuestion struct {
	Text   string            `json:"text"`
	Labels map[string]string `json:"labels"`
}

type affinityQuestion struct {
	Node v1.Node    `json:"node"`
	Spec v1.PodSpec `json:"spec"`
}

type tolerationsQuestion struct {
	Taints      []v1.Taint      `json:"taints"`
	Tolerations []v1.Toleration `json:"tolerations"`
}

// answer has Refused set when the libraries do not take the question.
type answer struct {
	Refused      string        `json:"refused,omitempty"`
	Image        string        `json:"image,omitempty"`
	Requirements []requirement `json:"requirements,omitempty"`
	Matches      bool          `json:"matches,omitempty"`
	// The untolerated taint, as its position.
	Taint *int `json:"taint,omitempty"`
	// What a file holds, and the first thing that headstart reads otherwise; or the resources that a node lacks.
	Readings   []string `json:"readings,omitempty"`
	Difference string   `json:"difference,omitempty"`
}

type requirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

func main() {
	// The libraries log what is invalid; here that is the point.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	reader, writer := bufio.NewReaderSize(in, 1<<20), bufio.NewWriterSize(out, 1<<20)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return writer.Flush()
		}
		if err != nil {
			return err
		}
		var asked question
		decoder := json.NewDecoder(bytes.NewReader(line))
		// A field that is misspelt would be a question that is never asked.
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&asked); err != nil {
			return fmt.Errorf("%w in %s", err, line)
		}
		reply, err := json.Marshal(respond(asked))
		if err != nil {
			return err
		}
		if _, err := writer.Write(append(reply, '\n')); err != nil {
			return err
		}
		// Nobody waits for an answer while there are more questions.
		if reader.Buffered() == 0 {
			if err := writer.Flush(); err != nil {
				return err
			}
		}
	}
}

func respond(asked question) answer {
	switch {
	case asked.Image != nil:
		return image(*asked.Image)
	case asked.Selector != nil:
		return selector(*asked.Selector)
	case asked.Affinity != nil:
		return affinity(*asked.Affinity)
	case asked.Tolerations != nil:
		return tolerations(*asked.Tolerations)
	case asked.Restricted != nil:
		return restricted(asked.Restricted)
	case asked.File != nil:
		return file(*asked.File)
	case asked.Fit != nil:
		return fit(*asked.Fit)
	default:
		return answer{Refused: "not a question"}
	}
}

// image normalises as containerd's CRI plugin does.
func image(given string) answer {
	named, err := reference.ParseDockerRef(given)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	return answer{Image: named.String()}
}

func selector(asked selectorQuestion) answer {
	parsed, err := labels.Parse(asked.Text)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	reply := answer{Matches: parsed.Matches(labels.Set(asked.Labels))}
	found, _ := parsed.Requirements()
	for _, r := range found {
		values := r.ValuesUnsorted()
		slices.Sort(values)
		reply.Requirements = append(reply.Requirements, requirement{r.Key(), operator(r.Operator()), values})
	}
	return reply
}

// operator spells the three ways to say "equal" as the set that they mean.
func operator(op selection.Operator) string {
	switch op {
	case selection.In, selection.Equals, selection.DoubleEquals:
		return "In"
	case selection.NotIn, selection.NotEquals:
		return "NotIn"
	case selection.Exists:
		return "Exists"
	case selection.DoesNotExist:
		return "DoesNotExist"
	case selection.GreaterThan:
		return "Gt"
	case selection.LessThan:
		return "Lt"
	default:
		return string(op)
	}
}

// affinity ignores errors, as the scheduler's NodeAffinity plugin does.
func affinity(asked affinityQuestion) answer {
	pod := v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}, Spec: asked.Spec}
	matches, _ := nodeaffinity.GetRequiredNodeAffinity(&pod).Match(&asked.Node)
	return answer{Matches: matches}
}

// tolerations filters as the scheduler's TaintToleration plugin does, with the feature gate
// TaintTolerationComparisonOperators at its default.
func tolerations(asked tolerationsQuestion) answer {
	doNotSchedule := func(taint *v1.Taint) bool {
		return taint.Effect == v1.TaintEffectNoSchedule || taint.Effect == v1.TaintEffectNoExecute
	}
	taint, found := corev1helpers.FindMatchingUntoleratedTaint(
		klog.Background(), asked.Taints, asked.Tolerations, doNotSchedule, false)
	if !found {
		return answer{Matches: true}
	}
	index := slices.Index(asked.Taints, taint)
	return answer{Taint: &index}
}

// restricted evaluates as the PodSecurity admission plugin does where a namespace enforces this level.
func restricted(pod *v1.Pod) answer {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !result.Allowed {
		return answer{Refused: result.ForbiddenReason() + ": " + result.ForbiddenDetail()}
	}
	return answer{Matches: true}
}
