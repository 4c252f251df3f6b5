#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What hmm_range_fault() and hmm_range_dma_map() cost in guest instructions,
base against series.

Both kernels boot in the same guest under QEMU's instruction clock, load the
same module and run the same program (bench-cases cost). Writes a table to
standard output, build/bench/{results,curves}.json and build/bench/{results,scale}.svg.

results.json is harness/bench/results.json with the section of this machine made
anew. With ARCH= of another machine that is what hmm_range_fault() costs on the
series kernel, and there is no picture.
"""
import datetime
import json
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD", os.path.join(TOP, "build"))
OUT = os.path.join(BUILD, "bench")
MACHINE = "-".join(filter(None, (os.environ.get("ARCH") or "x86_64", os.environ.get("PAGES"))))

# With caching mode, which only an emulated IOMMU has, each page that the base maps would
# be flushed.
IOMMU = os.environ.get("IOMMU") or ("intel-cm0" if MACHINE == "x86_64" else "")

# Pages of 4 KiB. The base has only dense output, and no memory for that of so many.
TERABYTE = str(1 << 28)


def output(kernel, what, command):
    """What a command prints on a kernel, line by line, in words."""
    print("hmm-dax: measuring %s on the %s kernel (a few minutes)" % (what, kernel), file=sys.stderr, flush=True)
    run = subprocess.run([os.path.join(TOP, "harness", "guest")], stdout=subprocess.PIPE, env={
        **os.environ, "KERNEL": kernel, "CLOCK": "instructions", "IOMMU": IOMMU, "RUN": command})
    if run.returncode:
        sys.stdout.buffer.write(run.stdout)
        sys.exit("hmm-dax: the measurement on the %s kernel failed (status %d)"
                 % (kernel, run.returncode))
    return [line.split() for line in run.stdout.decode().splitlines()]


def guest(kernel, mode, columns):
    """Rows that `bench-cases MODE` prints on a kernel."""
    rows = output(kernel, mode, "dax-storage && . /run/storage && modprobe hmm_bench count=0 && " +
                  ("modprobe hmm_bench_dma && " if MACHINE == "x86_64" else "") +
                  "bench-cases " + mode)
    return [r for r in rows if len(r) == columns and all(n.isdigit() for n in r[-3:])]


def costs():
    """The named cases. What the base cannot do is set against its dense output."""
    base = {r[0]: int(r[3]) for r in guest("base", "cost", 5)} if MACHINE == "x86_64" else {}
    results = {}
    for name, pages, leaves, cost, limit in guest("series", "cost", 5):
        dense = name.removesuffix("_list")
        if MACHINE == "x86_64" and dense not in base and pages != TERABYTE:
            sys.exit("hmm-dax: the base kernel has no figure for %s" % dense)
        results[name] = {"base": base.get(dense, 0), "series": int(cost), "limit": int(limit),
                         "pages": int(pages), "leaves": int(leaves)}
    if not results:
        sys.exit("hmm-dax: the guest measured nothing")
    return results


def dma_costs():
    """The same for DMA; beside the limit, what drm_gpusvm's loop takes."""
    base = {r[0]: (int(r[3]), int(r[6])) for r in guest("base", "dma", 7)}
    results = {}
    for name, pages, leaves, cost, limit, gpusvm, size in guest("series", "dma", 7):
        if not int(limit):
            continue    # no hmm_range_dma_map() in this kernel
        if name not in base:
            sys.exit("hmm-dax: the base kernel has no figure for %s" % name)
        was = base[name]
        results[name] = {"base": was[0], "series": int(cost), "limit": int(limit),
                         "pages": int(pages), "leaves": int(leaves),
                         "base_bytes": was[1], "series_bytes": int(size)}
        if int(gpusvm):
            results[name]["gpusvm"] = int(gpusvm)
    if not results:
        sys.exit("hmm-dax: the guest measured no DMA")
    return results


def curves():
    """{case: [{pages, leaves, base or series: instructions}...]}, sizes growing."""
    found = {}
    for kernel in "base", "series":
        for _, name, pages, leaves, cost in guest(kernel, "curves", 5):
            points = found.setdefault(name, {})
            point = points.setdefault(int(pages), {"pages": int(pages), "leaves": int(leaves)})
            point[kernel] = int(cost)
    return {name: [points[p] for p in sorted(points)] for name, points in found.items()}


def scale():
    """{curve: {how many: instructions}} of make scale's curves; its test judges them."""
    found = {}
    for row in output("series", "what grows with what", "scale-test curves"):
        if row[:1] == ["curve"]:
            found.setdefault(row[1], {})[int(row[2])] = int(row[3])
    return found


def times(a, b):
    """a / b: below 10 with two digits behind the point, as 0.95 is not 1.0."""
    return "%.*f" % (2 if a < 10 * b else 0, a / b)


def table(results):
    line = "%-33s %8s %7s %12s %12s %12s %8s %8s %9s %9s"
    print(line % ("case", "pages", "leaves", "base", "series", "reference", "base/", "series/", "series", "series"))
    print(line % ("", "", "", "instr.", "instr.", "instr.", "series", "referen.", "per page", "per leaf"))
    for name, r in results.items():
        print("%-33s %8d %7d %12d %12d %12d %8s %8.3f %9.2f %9.1f" % (
            name, r["pages"], r["leaves"], r["base"], r["series"], r["limit"],
            times(r["base"], r["series"]), r["series"] / r["limit"],
            r["series"] / r["pages"], r["series"] / r["leaves"]))


def dma_table(results):
    print("\n%-40s %8s %7s %12s %12s %10s %8s %8s %8s %10s %10s" % (
        "case", "pages", "leaves", "base", "series", "reference", "base/", "series/", "series/",
        "bytes kept", "bytes kept"))
    print("%-40s %8s %7s %12s %12s %10s %8s %8s %8s %10s %10s" % (
        "", "", "", "instr.", "instr.", "instr.", "series", "referen.", "gpusvm", "base", "series"))
    for name, r in results.items():
        print("%-40s %8d %7d %12d %12d %10d %8s %8.3f %8s %10d %10d" % (
            name, r["pages"], r["leaves"], r["base"], r["series"], r["limit"],
            times(r["base"], r["series"]), r["series"] / r["limit"],
            "%.3f" % (r["series"] / r["gpusvm"]) if "gpusvm" in r else "",
            r["base_bytes"], r["series_bytes"]))


def curve_table(found):
    print("\nOutput as a list against the number of leaves, nothing to be faulted:\n"
          "%8s %12s %9s     %8s %12s %9s" % ("2 MiB", "instr.", "per more", "4 KiB", "instr.", "per more"))
    columns = [found["warm_%s_list" % leaf] for leaf in ("pmd", "pte")]
    for i in range(max(map(len, columns))):
        row = ""
        for points in columns:
            p, q = points[i], points[i - 1]
            more = "%9.1f" % ((p["series"] - q["series"]) / (p["leaves"] - q["leaves"])) if i else " " * 9
            row += "%8d %12d %s     " % (p["leaves"], p["series"], more)
        print(row.rstrip())


SCALES = [  # curve, panel, what the key calls it, colour
    ("windows_over", "munmap() of a page, by windows of the process", "all have the page", "#3060b0"),
    ("windows_beside", "munmap() of a page, by windows of the process", "none has the page", "#208040"),
    ("pages_mirrored", "munmap() of pages of device-dax", "a window has them, behind an IOMMU", "#3060b0"),
    ("pages_not_mirrored", "munmap() of pages of device-dax", "no window", "#b04030"),
    ("processes", "a page that two mirrors and a window move, by processes", "each page", "#3060b0"),
]


def scale_table(found):
    print("\nWhat grows with what, in instructions:\n%-20s %8s %12s %12s" % ("", "number", "instr.", "per more"))
    for name, points in found.items():
        last = None
        for n, cost in points.items():
            more = "%12.1f" % ((cost - points[last]) / (n - last)) if last is not None else ""
            print("%-20s %8d %12d %s" % (name, n, cost, more))
            last = n


def scale_chart(found):
    plot = """
        set terminal svg size 1400,420 font 'sans,12' background 'white'
        set output '%s/scale.svg'
        set multiplot layout 1,3
        set logscale x 4; set logscale y 10; set format y '10^{%%T}'; set grid ytics
        set key top left; set style data linespoints; set ylabel 'guest instructions'
    """ % OUT
    for panel in dict.fromkeys(s[1] for s in SCALES):
        lines = []
        for name, of, title, colour in SCALES:
            if of != panel:
                continue
            data = os.path.join(OUT, name + ".dat")
            with open(data, "w") as f:
                f.writelines("%d %d\n" % p for p in found[name].items() if p[0])
            lines.append("'%s' title '%s' lc rgb '%s' pt 7 ps 0.5" % (data, title, colour))
        plot += "set title '%s'\nset yrange [100:*]\nplot %s\n" % (panel, ", ".join(lines))
    subprocess.run(["gnuplot"], input=(plot + "unset multiplot\n").encode(), check=True)


# Left: what each case costs. Right: how cost grows with size.
PLOT = """
    set terminal svg size 1400,760 font 'sans,12' background 'white'
    set output '{out}/results.svg'
    set multiplot
    set logscale y; set format y '10^{{%T}}'; set grid ytics; set ylabel 'guest instructions'

    set origin 0,0; set size 0.5,1; set bmargin 12
    set title 'one hmm\\_range\\_fault(), base and series (less is better)'
    set key outside top center horizontal; set yrange [50:*]
    set style data histogram; set style histogram clustered gap 1; set style fill solid 0.9
    set xtics rotate by -55 noenhanced
    plot '{out}/cases.dat' using 2:xtic(1) title 'base' lc rgb '#b04030', \
         '' using 3 title 'series' lc rgb '#3060b0', \
         '' using 4 title 'reference' lc rgb '#a0a0a0'

    set style data linespoints; set bmargin 4; set xtics norotate enhanced
    set logscale x 2; set format x '%.0f'; set key top left samplen 2 font ',10'
    set yrange [300:*]; set xlabel 'MiB of address space'
    set origin 0.5,0.5; set size 0.5,0.5
    set title 'cold: nothing is mapped (1 to 1,024 PMD leaves; one PUD leaf)'
    plot {cold}
    set origin 0.5,0; set size 0.5,0.5; unset key
    set title 'warm: the CPU has it mapped'
    plot {warm}
    unset multiplot
"""

LINES = [  # leaf, output, kernel, what the key calls it, colour, dashes
    ("pmd", "", "base", "2 MiB leaves, base", "#b04030", 1),
    ("pmd", "", "series", "2 MiB leaves, series", "#3060b0", 1),
    ("pmd", "_list", "series", "2 MiB leaves, list", "#208040", 1),
    ("pud", "", "base", "1 GiB leaf, base", "#b04030", 2),
    ("pud", "", "series", "1 GiB leaf, series", "#3060b0", 2),
    ("pud", "_list", "series", "1 GiB leaf, list", "#208040", 2),
]


def chart(results, found):
    with open(os.path.join(OUT, "cases.dat"), "w") as f:
        for name, r in results.items():
            if "_write" not in name and r["base"]:
                f.write("%s %d %d %d\n" % (name, r["base"], r["series"], r["limit"]))
    plots = {}
    for kind in "cold", "warm":
        lines = []
        for leaf, output, kernel, title, colour, dashes in LINES:
            name = "%s_%s%s" % (kind, leaf, output)
            data = os.path.join(OUT, "%s-%s.dat" % (name, kernel))
            with open(data, "w") as f:
                for p in found[name]:
                    f.write("%g %d\n" % (p["pages"] / 256, p[kernel]))
            lines.append("'%s' title '%s' lc rgb '%s' dt %d pt 7 ps 0.4" % (data, title, colour, dashes))
        plots[kind] = ", ".join(lines)
    subprocess.run(["gnuplot"], input=PLOT.format(out=OUT, **plots).encode(), check=True)


def save(name, what):
    with open(os.path.join(OUT, name), "w") as f:
        json.dump(what, f, indent=1)
        f.write("\n")


def save_results(cases, **more):
    with open(os.path.join(TOP, "harness", "bench", "results.json")) as f:
        machines = json.load(f)
    machines[MACHINE] = {"measured": datetime.date.today().isoformat(), "cases": cases, **more}
    save("results.json", machines)


def main():
    os.makedirs(OUT, exist_ok=True)
    results = costs()
    table(results)
    if MACHINE != "x86_64":
        save_results(results)
        return
    dma = dma_costs()
    dma_table(dma)
    found = curves()
    curve_table(found)
    scales = scale()
    scale_table(scales)
    save_results({**results, **dma}, scale=scales)
    save("curves.json", found)
    chart(results, found)
    scale_chart(scales)


if __name__ == "__main__":
    main()
