package main

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	core "k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources"
)

type fitQuestion struct {
	Node v1.Node    `json:"node"`
	Spec v1.PodSpec `json:"spec"`
}

// fit answers as the scheduler's NodeResourcesFit plugin does for an empty node, about a pod as the API server stores it.
func fit(asked fitQuestion) answer {
	pod, err := stored(&v1.Pod{Spec: asked.Spec})
	if err != nil {
		return answer{Refused: err.Error()}
	}
	node := framework.NewNodeInfo()
	node.SetNode(&asked.Node)
	options := noderesources.ResourceRequestsOptions{EnablePodLevelResources: true}
	missing := noderesources.Fits(pod, node, nil, options)
	reply := answer{Matches: len(missing) == 0}
	for _, m := range missing {
		reply.Readings = append(reply.Readings, fmt.Sprintf("%s %d %d", m.ResourceName, m.Requested, m.Capacity))
	}
	slices.Sort(reply.Readings)
	return reply
}

// stored sets the defaults that the API server sets.
func stored(pod *v1.Pod) (*v1.Pod, error) {
	corev1.SetObjectDefaults_Pod(pod)
	var internal core.Pod
	if err := corev1.Convert_v1_Pod_To_core_Pod(pod, &internal, nil); err != nil {
		return nil, err
	}
	podutil.DefaultPodLevelResources(&internal)
	result := &v1.Pod{}
	return result, corev1.Convert_core_Pod_To_v1_Pod(&internal, result, nil)
}
