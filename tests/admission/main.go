// Runs objects through admission policies as an API server does: the server's own plugins, fed by fake clients. Then judges
// our containers by the server's own evaluator of the restricted pod security standard.
//
//	admission POLICIES SCHEMAS < cases.json > results.json
//
// POLICIES is a file of manifests, SCHEMAS the directory api/openapi-spec/v3 of Kubernetes' own release: those that the client
// library brings for tests know nothing of native sidecars. A case is {"name", "namespace", "operation", "subresource", "object", "old"}; its result says what came
// out of the policies that change, what the validating ones said, and what the first did on being asked a second time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type testCase struct {
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource,omitempty"`
	Object      json.RawMessage `json:"object"`
	Old         json.RawMessage `json:"old,omitempty"`
}

type result struct {
	Name string `json:"name"`
	// As it came, in the server's own form.
	Original runtime.Object `json:"original"`
	// What the policies that change made of the object; absent where one denied it.
	Object runtime.Object `json:"object,omitempty"`
	// The same after being asked once more.
	Again    runtime.Object `json:"again,omitempty"`
	Denied   string         `json:"denied,omitempty"`
	DeniedBy string         `json:"denied_by,omitempty"`
	// What the restricted standard says against our containers, with those of the application taken out.
	Restricted []string `json:"restricted,omitempty"`
}

// The fake client, with the API's schemas, which policies that apply configurations are merged by.
type client struct {
	kubernetes.Interface
	schemas openapi.Client
}

func (c client) Discovery() discovery.DiscoveryInterface {
	return described{c.Interface.Discovery(), c.schemas}
}

type described struct {
	discovery.DiscoveryInterface
	schemas openapi.Client
}

func (d described) OpenAPIV3() openapi.Client { return d.schemas }

func main() {
	if err := run(os.Args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
		os.Exit(1)
	}
}

func run(args []string, input io.Reader, output io.Writer) error {
	if len(args) != 3 {
		return errors.New("two arguments are needed: the file with the policies, and the directory of schemas")
	}
	var cases []testCase
	if err := json.NewDecoder(input).Decode(&cases); err != nil {
		return fmt.Errorf("the cases: %w", err)
	}
	objects, err := policies(args[1])
	if err != nil {
		return err
	}
	namespaces := map[string]bool{}
	for _, c := range cases {
		if !namespaces[c.Namespace] {
			namespaces[c.Namespace] = true
			labels := map[string]string{"kubernetes.io/metadata.name": c.Namespace}
			objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace, Labels: labels}})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	mutator, validator, err := plugins(ctx, objects, openapitest.NewFileClient(args[2]))
	if err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	results := make([]result, 0, len(cases))
	for _, c := range cases {
		r, err := admit(ctx, c, mutator, validator)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if pod, is := r.Object.(*corev1.Pod); is {
			r.Restricted = restricted(evaluator, pod)
		}
		results = append(results, r)
	}
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(results)
}

// The policies and their bindings of a file of manifests, read strictly.
func policies(path string) ([]runtime.Object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var objects []runtime.Object
	documents := yaml.NewYAMLOrJSONDecoder(file, 1<<16)
	for {
		var raw json.RawMessage
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var kind metav1.TypeMeta
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if kind.GroupVersionKind().Group != admissionregistrationv1.GroupName {
			continue
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		objects = append(objects, filled(object))
	}
}

// What the server would have filled in, and what the plugins need. Nothing else is defaulted here.
func filled(object runtime.Object) runtime.Object {
	match := func(m *admissionregistrationv1.MatchResources) *admissionregistrationv1.MatchResources {
		if m == nil {
			m = &admissionregistrationv1.MatchResources{}
		}
		if m.NamespaceSelector == nil {
			m.NamespaceSelector = &metav1.LabelSelector{}
		}
		if m.ObjectSelector == nil {
			m.ObjectSelector = &metav1.LabelSelector{}
		}
		if m.MatchPolicy == nil {
			equivalent := admissionregistrationv1.Equivalent
			m.MatchPolicy = &equivalent
		}
		return m
	}
	switch o := object.(type) {
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		o.Spec.MatchConstraints = match(o.Spec.MatchConstraints)
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		o.Spec.MatchConstraints = match(o.Spec.MatchConstraints)
	case *admissionregistrationv1.MutatingAdmissionPolicyBinding:
		if o.Spec.MatchResources != nil {
			o.Spec.MatchResources = match(o.Spec.MatchResources)
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		if o.Spec.MatchResources != nil {
			o.Spec.MatchResources = match(o.Spec.MatchResources)
		}
	}
	return object
}

func plugins(ctx context.Context, objects []runtime.Object, schemas openapi.Client) (*mutating.Plugin, *validating.Plugin, error) {
	clients := client{fake.NewClientset(objects...), schemas}
	dynamic := dynamicfake.NewSimpleDynamicClient(scheme.Scheme)
	factory := informers.NewSharedInformerFactory(clients, 0)
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	mutator, err := mutating.NewPlugin(nil)
	if err != nil {
		return nil, nil, err
	}
	mutator.SetEnabled(true)
	validator, err := validating.NewPlugin(nil)
	if err != nil {
		return nil, nil, err
	}
	for _, plugin := range []interface {
		initializer.WantsExternalKubeInformerFactory
		initializer.WantsExternalKubeClientSet
		initializer.WantsRESTMapper
		initializer.WantsDynamicClient
		initializer.WantsDrainedNotification
		initializer.WantsAuthorizer
		admission.InitializationValidator
	}{mutator, validator} {
		plugin.SetExternalKubeInformerFactory(factory)
		plugin.SetExternalKubeClientSet(clients)
		plugin.SetRESTMapper(mapper)
		plugin.SetDynamicClient(dynamic)
		plugin.SetDrainedNotification(ctx.Done())
		plugin.SetAuthorizer(authorizerfactory.NewAlwaysAllowAuthorizer())
		if err := plugin.ValidateInitialization(); err != nil {
			return nil, nil, err
		}
	}
	// Afterwards, because the plugins ask for their informers on being initialized.
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, nil, fmt.Errorf("no list of %v", kind)
		}
	}
	if !mutator.WaitForReady() || !validator.WaitForReady() {
		return nil, nil, errors.New("the plugins are not ready")
	}
	return mutator, validator, nil
}

func admit(ctx context.Context, c testCase, mutator *mutating.Plugin, validator *validating.Plugin) (result, error) {
	r := result{Name: c.Name}
	object, err := decode(c.Object)
	if err != nil {
		return r, err
	}
	var old runtime.Object
	if len(c.Old) > 0 && string(c.Old) != "null" {
		if old, err = decode(c.Old); err != nil {
			return r, err
		}
	}
	operation := admission.Operation(c.Operation)
	if operation == "" {
		operation = admission.Create
	}
	ask := func(object runtime.Object) admission.Attributes {
		kind := object.GetObjectKind().GroupVersionKind()
		resource := kind.GroupVersion().WithResource(strings.ToLower(kind.Kind) + "s")
		who := &user.DefaultInfo{Name: "deployer"}
		name, _ := meta.NewAccessor().Name(object)
		return admission.NewAttributesRecord(object, old, kind, c.Namespace, name, resource, c.Subresource, operation, &metav1.CreateOptions{}, false, who)
	}
	interfaces := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	kind := object.GetObjectKind().GroupVersionKind()
	change := func(object runtime.Object) (runtime.Object, error) {
		for {
			attributes := ask(object.DeepCopyObject())
			err := mutator.Admit(ctx, attributes, interfaces)
			// As the server's own handler does: once more, for policies that are to see what others changed.
			if again := attributes.GetReinvocationContext(); err == nil && again.ShouldReinvoke() {
				again.SetIsReinvoke()
				err = mutator.Admit(ctx, attributes, interfaces)
			}
			// The schemas are read in the background.
			if apierrors.IsServiceUnavailable(err) && ctx.Err() == nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			changed := attributes.GetObject()
			changed.GetObjectKind().SetGroupVersionKind(kind)
			return changed, err
		}
	}
	r.Original = object
	changed, err := change(object)
	if err != nil {
		r.Denied, r.DeniedBy = err.Error(), "mutation"
		return r, nil
	}
	r.Object = changed
	if r.Again, err = change(changed); err != nil {
		return r, fmt.Errorf("asked again: %w", err)
	}
	if err := validator.Validate(ctx, ask(changed), interfaces); err != nil {
		r.Denied, r.DeniedBy = err.Error(), "validation"
	}
	return r, nil
}

func decode(raw []byte) (runtime.Object, error) {
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
	return object, err
}

// The standard over a pod of our containers alone: the application's own are not ours to mend. Pod-level fields stay as the
// application has them, less what breaks the standard for itself.
func restricted(evaluator policy.Evaluator, pod *corev1.Pod) []string {
	ours := pod.DeepCopy()
	ours.Spec.HostNetwork = false
	ours.Spec.Containers = nil
	ours.Spec.InitContainers = nil
	used := map[string]bool{}
	for _, container := range pod.Spec.InitContainers {
		if strings.HasPrefix(container.Name, "wechat-") {
			ours.Spec.Containers = append(ours.Spec.Containers, container)
			for _, mount := range container.VolumeMounts {
				used[mount.Name] = true
			}
		}
	}
	ours.Spec.Volumes = nil
	for _, volume := range pod.Spec.Volumes {
		if used[volume.Name] {
			ours.Spec.Volumes = append(ours.Spec.Volumes, volume)
		}
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	said := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &ours.ObjectMeta, &ours.Spec))
	if said.Allowed {
		return nil
	}
	return []string{said.ForbiddenDetail()}
}
