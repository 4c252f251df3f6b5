#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The series as mails: build/series/*.patch, for git send-email.

V=n      version n: the changes since the versions before from series/changelog,
         and a range-diff with tag series-v<n-1> of this repository
SET=s    of the sets in series/sets those of that name (several names, or shell patterns
         for them): each is a thread of its own in build/series/s/, with
         series/cover-letter-s.txt, series/changelog-s and tags series-s-v<n>. It says
         which sets it is on top of. SET=all is all in one thread, as without.

What is mailed are the commits of build/linux, which stays as it is. They get
their author and Signed-off-by from the git identity of the caller alone.
"""
import concurrent.futures
import email.utils
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import sets         # beside this file

series = sets.series
Error, say, git, out, raw = series.Error, series.say, series.git, series.out, series.raw
subject = sets.subject

OUT = os.path.abspath(os.path.join(series.BUILD, "series"))
SIGNED = "Signed-off-by"
LORE = "https://lore.kernel.org/r/"


def identity():
    """Name and address of the caller. What git would make up is refused."""
    run = git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT",
              repo=series.TOP, check=False)
    m = re.match(r"(.+) <(.+)> \d+ ", run.stdout.decode())
    if run.returncode or not m:
        raise Error("the mails need your name: git config user.name 'First Last' and "
                    "git config user.email you@your.domain, then make series again")
    if re.search(r"noreply|[@.](localhost|example|invalid|test)$", m[2]):
        say("note: you send and sign as %s <%s>; is that an address of yours?" % m.groups())
    return m.groups()


def message(rev):
    return git("show", "-s", "--format=%B", rev).stdout.decode("utf-8", "surrogateescape")


def signed(revs, who, tip):
    """The commits, on tip, with the sender as author and signer; returns the last."""
    own = "%s: %s <%s>" % (SIGNED, *who)
    for rev, tree in revs:
        text = message(rev)
        other = [l for l in re.findall("(?im)^%s: .*" % SIGNED, text) if l != own]
        if other:
            raise Error("'%s' says '%s': only the sender signs, when he sends"
                        % (subject(rev), other[0]))
        text = out("interpret-trailers", "--no-divider", "--if-exists", "addIfDifferent",
                   "--trailer", own, stdin=raw(text)) + "\n"
        env = {"GIT_%s_%s" % (role, key): value for role in ("AUTHOR", "COMMITTER")
               for key, value in (("NAME", who[0]), ("EMAIL", who[1]),
                                  ("DATE", out("show", "-s", "--format=%aI", rev)))}
        tip = out("commit-tree", tree, "-p", tip, stdin=raw(text), env=env)
    return tip


def below(tree):
    """A commit for what a set is applied to."""
    nobody = {"GIT_%s_%s" % (role, key): "base" for role in ("AUTHOR", "COMMITTER")
              for key in ("NAME", "EMAIL")}
    return out("commit-tree", tree, stdin=b"base\n", env=nobody)


def mailed(revs, found, name, who):
    """(commit that the mails are on, last commit) of a set, or of all without a name."""
    if not name:
        base = out("rev-parse", series.BASE_REF)
        return base, signed([(rev, rev + "^{tree}") for rev in revs], who, base)
    ground, chosen = sets.on_base(found, name, sets.touched(revs))
    base = below(ground)
    return base, signed(chosen, who, base)


def earlier(tag):
    """(commits of the series, sets) that a tag of this repository has."""
    if git("rev-parse", "-q", "--verify", "refs/tags/%s^{commit}" % tag, repo=series.TOP,
           check=False).returncode:
        raise Error("the range-diff needs the version before: git tag %s on the commit of "
                    "this repository that was mailed" % tag)
    mails, files = [], {}
    listed = git("ls-tree", "-rz", tag, repo=series.TOP).stdout.decode().split("\0")
    for line in filter(None, listed):
        mode, path = line.split()[0], line.split("\t", 1)[1]
        is_patch = re.match(r"series/\d{4}-.*\.patch$", path)
        if not is_patch and path.split("/")[0] not in series.KERNEL_DIRS:
            continue
        data = git("cat-file", "blob", "%s:%s" % (tag, path), repo=series.TOP).stdout
        if is_patch:
            mails.append((os.path.basename(path), data.decode("utf-8", "surrogateescape")))
        else:
            files[path] = (mode, data)
    revs = series.build_branch(mails, files)
    text = git("show", tag + ":series/sets", repo=series.TOP, check=False).stdout.decode()
    return revs, sets.Sets(text, revs) if text else None


def changes(name, version):
    """The sections 'vN:' of a changelog, newest first, as a cover letter has them."""
    path = os.path.join(series.SERIES, name)
    text = series.read(path) if os.path.exists(path) else ""
    found = {int(n): body.strip("\n") for n, body in
             re.findall(r"^v(\d+):\n(.*?)(?=^v\d+:|\Z)", text, re.M | re.S)}
    if not found.get(version):
        raise Error("series/%s has no section 'v%d:' that says what changed since v%d"
                    % (name, version, version - 1))
    return "\n\n".join("Changes since v%d:\n%s" % (n - 1, found[n])
                       for n in sorted(found, reverse=True) if 1 < n <= version)


def base_lines():
    """The base in words. Only a git tree given by LINUX= has a commit that
    others may know; hmm-dax-base is of this machine."""
    want, version, origin = series.base_id().split("\n")
    if want.startswith("git "):
        return "base: Linux %s\nbase-commit: %s" % (version, want.split()[-1])
    if want.startswith("tree "):
        return "base: Linux " + version
    return "base: Linux %s (%s)" % (version, origin)


def letter(name, several):
    """(title, text) of a cover letter. One patch has none: what is in the file, if there is
    one, stands below its '---'."""
    file = "cover-letter%s.txt" % ("-" + name if name else "")
    path = os.path.join(series.SERIES, file)
    text = series.read(path) if os.path.exists(path) else ""
    if not several:
        return "", text.strip()
    if not text:
        raise Error("a set of several patches needs series/%s; its first line is 'Subject: ...'"
                    % file)
    head, _, body = text.partition("\n")
    if not re.match(r"Subject: \S", head):
        raise Error("series/%s: the first line is not 'Subject: ...'" % file)
    return head[len("Subject: "):], body.strip()


def title_of(found, name):
    revs = found.revs[name]
    return letter(name, len(revs) > 1)[0] or subject(revs[0])


def message_id(name, version, who):
    """Of the first mail of a set: other sets have it in their text before it is sent."""
    return "hmm-dax-%s-v%d.%s" % (name, version, who[1])


def latest(name):
    """The version of a set that was mailed last, or will be first."""
    tags = out("tag", "-l", "series-%s-v*" % name, repo=series.TOP).split()
    return max([int(tag.rsplit("v", 1)[1]) for tag in tags if re.search(r"-v\d+$", tag)] + [1])


def neighbours(found, name, versions, who):
    """Which sets this one is on top of, and which are on top of it, with links."""
    def link(other):
        version = versions.get(other) or latest(other)
        return '  "%s"\n  %s%s' % (title_of(found, other), LORE, message_id(other, version, who))

    return ["%s:\n%s" % (one if len(others) == 1 else several, "\n".join(map(link, others)))
            for others, one, several in (
                (found.below(name), "This set applies on top of",
                 "This set applies on top of these, in this order"),
                (found.on_top(name), "This set is on top of it", "These sets are on top of it"))
            if others]


def prerequisites(found, name):
    """The patches that a set needs, in the words of git format-patch --base: for those who
    apply what comes from a list by program."""
    if not series.base_id().startswith("git "):
        return ""
    diffs = "".join("From %s x\n\n%s" % (rev, sets.diff_of(rev)) for other in found.below(name)
                    for rev in found.revs[other])
    ids = out("patch-id", "--stable", stdin=raw(diffs)).splitlines() if diffs else []
    return "".join("\nprerequisite-patch-id: " + line.split()[0] for line in ids)


def description(found, name, versions, version, several, who):
    """What the cover letter says: its subject, and what stands below it."""
    title, body = letter(name, several)
    parts = [body] if body else []
    if version > 1:
        parts.append(changes("changelog" + ("-" + name if name else ""), version))
    if name:
        parts += neighbours(found, name, versions, who)
    base = base_lines() + (prerequisites(found, name) if name else "")
    return title, "\n\n".join(parts + [base])


def recipients(patch):
    """(To, Cc) of a patch: its maintainers; its reviewers and lists."""
    # The tests have a program of theirs.
    tool = os.environ.get("GET_MAINTAINER") or "scripts/get_maintainer.pl"
    run = subprocess.run([tool, "--nogit", "--nogit-fallback", "--nofixes", "--rolestats", patch],
                         cwd=series.LINUX, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True)
    people = re.findall(r"^(.*?\S+@\S+) \((.*)\)$", run.stdout, re.M)
    if run.returncode or not people:
        raise Error("get_maintainer.pl knows nobody for %s: %s" % (
            os.path.basename(patch), run.stderr.strip()))
    to = [who for who, role in people if role.startswith(("maintainer", "supporter"))]
    return to, [who for who, _ in people if who not in to]


def address(who):
    name, at = email.utils.parseaddr(who)
    return email.utils.formataddr((name, at), "utf-8") if name else at


def fill(patch, to, cc, identity=""):
    """Put the addressees, and the Message-ID if there is one, below the subject of a patch."""
    text = series.read(patch)
    head, sep, body = text.partition("\n\n")
    for field, people in (("To", to), ("Cc", cc)):
        if people:
            head += "\n%s: %s" % (field, ",\n    ".join(address(who) for who in people))
    if identity:
        head += "\nMessage-ID: <%s>" % identity
    with open(patch, "wb") as f:
        f.write(raw(head + sep + body))


def format_patches(repo, folder, who, base, tip, was, version, title, text):
    """git format-patch, in a repository of its own: there the branch can have a description,
    and no hook or setting of build/linux is in the way."""
    series.borrowing(repo)
    git("update-ref", "refs/heads/mail", tip, repo=repo)
    git("config", "branch.mail.description", title + "\n\n" + text, repo=repo)
    options = ["--cover-letter" if title else "--no-cover-letter", "--no-base", "--no-signoff",
               "--no-renames", "--no-ext-diff", "--no-color", "--no-attach", "--no-to", "--no-cc",
               "--src-prefix=a/", "--dst-prefix=b/", "--encode-email-headers",
               "--cover-from-description=subject", "--subject-prefix=PATCH"]
    if version > 1:
        options += ["-v%d" % version, "--range-diff=%s..%s" % was]
    git("format-patch", "-q", "-o", folder, *options, base + "..mail", repo=repo,
        env={"GIT_COMMITTER_NAME": who[0], "GIT_COMMITTER_EMAIL": who[1]})
    patches = sorted(glob.glob(os.path.join(glob.escape(folder), "*.patch")))
    if not title:       # what a cover letter would say stands below the '---'
        mail_text = series.read(patches[0]).replace("\n---\n", "\n---\n%s\n\n" % text, 1)
        with open(patches[0], "wb") as f:
            f.write(raw(mail_text))
    return patches


def make(revs, found, name, versions, version, who):
    """The mails of a set, or of all, in their folder; prints what to do with them."""
    folder = os.path.join(OUT, name)
    chosen = found.revs[name] if name else revs
    several = len(chosen) > 1
    title, text = description(found, name, versions, version, several, who)
    was = None
    if version > 1:
        tag = "series%s-v%d" % ("-" + name if name else "", version - 1)
        revs_then, then = earlier(tag)
        if name and (not then or name not in then.revs):
            raise Error("the range-diff needs the version before, and %s has no set %s"
                        % (tag, name))
        was = mailed(revs_then, then, name, who)
    base, tip = mailed(revs, found, name, who)

    with tempfile.TemporaryDirectory() as tmp:
        patches = format_patches(os.path.join(tmp, "git"), folder, who, base, tip, was, version,
                                 title, text)
    all_to, all_cc = [], []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        people = list(pool.map(recipients, patches[several:]))
    for to, cc in people:
        all_to += [p for p in to if p not in all_to]
        all_cc += [p for p in cc if p not in all_cc]
    if several:
        people.insert(0, (all_to, [p for p in all_cc if p not in all_to]))
    identity = message_id(name, version, who) if name else ""
    for patch, (to, cc) in zip(patches, people):
        fill(patch, to, cc, identity)
        identity = ""       # git send-email makes the others answers to it
    print("%s: %s from %s <%s>; look at them, then" % (
        os.path.relpath(folder), "a cover letter and %d patches" % (len(patches) - 1) if several
        else "one patch", *who))
    print("git send-email %s/*.patch" % os.path.relpath(folder))


def main():
    version, which = os.environ.get("V", ""), os.environ.get("SET", "").split()
    if not re.match(r"([1-9]\d*)?$", version):
        raise Error("V=%s: give a version, 1 or more" % version)
    version = int(version or 1)
    who = identity()
    shutil.rmtree(OUT, ignore_errors=True)
    if series.dirty():
        say("note: build/linux has edits that are not committed; they are not in the mails")

    revs = sets.commits()
    if not revs:
        raise Error("there is nothing to mail")
    if which in ([], ["all"]):
        make(revs, None, "", {}, version, who)
        return
    found = sets.of_series(revs)
    names = found.names(which)
    for name in names:
        make(revs, found, name, dict.fromkeys(names, version), version, who)


if __name__ == "__main__":
    series.run(main)
