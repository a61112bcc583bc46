//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// manifests are those of an example, by their kind. Kubernetes' own structures take them, and know every key in them.
func manifests(t *testing.T, dir string, objects map[string]any) {
	t.Helper()
	seen := map[string]bool{}
	var kustomization struct{ Resources []string }
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := yaml.Unmarshal(read("kustomization.yaml"), &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, name := range kustomization.Resources {
		for _, document := range bytes.Split(read(name), []byte("\n---\n")) {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal(document, &kind); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			into, ok := objects[kind.Kind]
			if !ok || seen[kind.Kind] {
				t.Fatalf("%s: a %s", name, kind.Kind)
			}
			seen[kind.Kind] = true
			if err := yaml.UnmarshalStrict(document, into); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if len(seen) != len(objects) {
		t.Fatalf("only %v", seen)
	}
}

// fits checks that selectors, ports and volumes fit together, and that the pod needs no privilege. padlock is its last container.
func fits(t *testing.T, deployment *appsv1.Deployment, service *corev1.Service) {
	t.Helper()
	pod := deployment.Spec.Template
	padlock := pod.Spec.Containers[len(pod.Spec.Containers)-1]
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value || deployment.Spec.Selector.MatchLabels[key] != value {
			t.Errorf("%s=%s selects nothing", key, value)
		}
	}
	ports := map[string]corev1.ContainerPort{}
	for _, port := range padlock.Ports {
		ports[port.Name] = port
	}
	for _, port := range service.Spec.Ports {
		there, ok := ports[port.TargetPort.String()]
		if !ok || there.ContainerPort != port.Port || there.Protocol != port.Protocol {
			t.Errorf("%s leads to %+v", port.Name, there) // another port would be in redirects and Alt-Svc
		}
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Spec.Volumes {
		volumes[volume.Name] = true
	}
	for _, mount := range padlock.VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("%s is mounted from nowhere", mount.Name)
		}
	}
	rights := padlock.SecurityContext
	if !*pod.Spec.SecurityContext.RunAsNonRoot || *rights.AllowPrivilegeEscalation || !*rights.ReadOnlyRootFilesystem || rights.Capabilities.Drop[0] != "ALL" {
		t.Errorf("%+v", rights)
	}
	if probe := padlock.ReadinessProbe; strings.Join(probe.Exec.Command, " ") != "/padlock status --quiet" {
		t.Errorf("%+v", probe)
	}
}

func TestKubernetesTakesTheManifests(t *testing.T) {
	besides(t)
	deployment, service := &appsv1.Deployment{}, &corev1.Service{}
	manifests(t, filepath.Join("..", "examples", "kubernetes"), map[string]any{
		"Deployment": deployment, "Service": service, "PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
	})
	fits(t, deployment, service)
}

// The volume belongs to the group that padlock runs in, and one pod at a time has it.
func TestKubernetesTakesTheManifestsWithAVolume(t *testing.T) {
	besides(t)
	deployment, service, claim := &appsv1.Deployment{}, &corev1.Service{}, &corev1.PersistentVolumeClaim{}
	manifests(t, filepath.Join("..", "examples", "kubernetes", "persistent"), map[string]any{"Deployment": deployment, "Service": service, "PersistentVolumeClaim": claim})
	fits(t, deployment, service)
	pod := deployment.Spec.Template.Spec
	if rights := pod.SecurityContext; *rights.FSGroup != *rights.RunAsGroup || *deployment.Spec.Replicas != 1 || deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("%+v", rights)
	}
	if volume := pod.Volumes[len(pod.Volumes)-1].PersistentVolumeClaim; volume == nil || volume.ClaimName != claim.Name {
		t.Errorf("%+v", volume)
	}
}
