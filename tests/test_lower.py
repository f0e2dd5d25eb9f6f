"""What `bash run.sh lower` reads off a compiled program's text."""

from collections import Counter

from benchmarks.lower import bytes_moved, bytes_of, collectives_of, computations, count_kernels, entry, kernels_of_loop

# A loop whose body launches four kernels: two fusions, one within a call, a product by a library, and a collective.
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  ROOT %add = f32[8,4]{1,0} add(%x, %x)
}

%called (y: f32[8,4]) -> f32[8,4] {
  %y = f32[8,4]{1,0} parameter(0)
  ROOT %fusion.2 = f32[8,4]{1,0} fusion(%y), kind=kLoop, calls=%fused
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %v = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %fusion.1 = f32[8,4]{1,0} fusion(%v), kind=kLoop, calls=%fused
  %call.1 = f32[8,4]{1,0} call(%fusion.1), to_apply=%called
  %gemm = (f32[8,4]{1,0}, s8[64]{0}) custom-call(%call.1, %v), custom_call_target="__cublas$gemm"
  %out = f32[8,4]{1,0} get-tuple-element(%gemm), index=0
  %all-reduce-start.1 = f32[8,4]{1,0} all-reduce-start(%out), replica_groups={{0,1}}, to_apply=%sum
  %all-reduce-done.1 = f32[8,4]{1,0} all-reduce-done(%all-reduce-start.1)
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i, %all-reduce-done.1)
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %less = pred[] custom-call(%p)
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %copy.1 = f32[8,4]{1,0} copy(%a)
  %start = (s32[], f32[8,4]{1,0}) tuple(%zero, %copy.1)
  %while.1 = (s32[], f32[8,4]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %result = f32[8,4]{1,0} get-tuple-element(%while.1), index=1
}
"""


def test_computations_are_found_by_name():
    of = computations(PROGRAM)
    assert list(of) == ["fused", "called", "body", "condition", "main"]
    assert entry(PROGRAM) == "main"


def test_kernels_of_the_loop_and_of_one_call():
    assert kernels_of_loop(PROGRAM) == 4
    assert count_kernels(computations(PROGRAM), "main") == 5  # a copy, and one pass of the loop


def test_bytes_of_types():
    assert bytes_of("f32[8,4]{1,0}") == 128
    assert bytes_of("(s32[], bf16[3]{0}, pred[2,2]{1,0})") == 4 + 6 + 4
    assert bytes_of("token[]") == 0


def test_bytes_moved_without_a_loop():
    text = """ENTRY %main (a: f32[8,4], b: bf16[2]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = bf16[2]{0} parameter(1)
  %copy.1 = f32[8,4]{1,0} copy(%a)
  ROOT %fusion.1 = f32[8,4]{1,0} fusion(%copy.1, %b), kind=kLoop, calls=%fused
}
"""
    assert bytes_moved(text) == (128 + 128) + (128 + 128 + 4)


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    assert collectives_of(PROGRAM) == (Counter({"all-reduce": 1}), 128.0)
