// SPDX-License-Identifier: GPL-2.0
/*
 * iommu_map_units() on a domain that has no hardware, but remembers what it was
 * asked for and counts how often:
 *
 *	tools/testing/kunit/kunit.py run --kunitconfig drivers/iommu
 *
 * The domain comes in two flavours. One is like a page table: each of its entries
 * can be unmapped alone, but none in part. The other is like virtio-iommu: what
 * one call has mapped can only be unmapped as a whole.
 */
#include <kunit/test.h>
#include <linux/iommu.h>
#include <linux/sizes.h>

/* Enough for MANY units, each with a request of its own, and for the ends. */
#define MOCK_REQUESTS	1024
#define MANY		600

/* What a stretch begins with and ends with is off these by less than a unit. */
#define UNITS_IOVA	((unsigned long)SZ_1G)
#define UNITS_PADDR	((phys_addr_t)SZ_2G)

/*
 * How the mock uses the gather of an unmap call. There are drivers for each of
 * these: some ignore it, some only let it grow, and some want all in it to be
 * adjacent and of the same page size, so they flush whenever it is not.
 */
enum mock_gather {
	MOCK_GATHER_NONE,
	MOCK_GATHER_RANGE,
	MOCK_GATHER_PAGE,
};

/* What is mapped; with the page table flavour, by entries of the page size. */
struct mock_request {
	unsigned long iova;
	phys_addr_t paddr;
	size_t size;
	size_t pgsize;
};

struct mock_domain {
	struct iommu_domain domain;
	struct kunit *test;
	enum mock_gather gather;
	unsigned int fail_at;	/* the call of map_pages that fails, from 1 on */
	bool fail_late;		/* it does so with half of the work done */

	unsigned int nr;
	struct mock_request requests[MOCK_REQUESTS];

	unsigned int maps;	/* calls of the four operations */
	unsigned int unmaps;
	unsigned int syncs;
	unsigned int map_syncs;
	unsigned long sync_start;	/* what the last flush was for */
	unsigned long sync_end;
};

struct units_param {
	char name[48];
	unsigned long pgsizes;
	size_t unit;
	bool as_mapped;
};

/* A stretch to be mapped. */
struct stretch {
	unsigned long iova;
	phys_addr_t paddr;
	size_t size;
};

/* ---- the domain ---- */

static struct mock_domain *to_mock(struct iommu_domain *domain)
{
	return container_of(domain, struct mock_domain, domain);
}

/* No ends are computed here, because the last one would not fit in a long. */
static bool mock_overlaps(const struct mock_request *r, unsigned long iova,
			  size_t size)
{
	return iova - r->iova < r->size || r->iova - iova < size;
}

static struct mock_request *mock_find(struct mock_domain *mock,
				      unsigned long iova, size_t size)
{
	unsigned int i;

	for (i = 0; i < mock->nr; i++) {
		if (mock_overlaps(&mock->requests[i], iova, size))
			return &mock->requests[i];
	}
	return NULL;
}

static void mock_add(struct mock_domain *mock, const struct mock_request *r)
{
	KUNIT_ASSERT_LT(mock->test, mock->nr, MOCK_REQUESTS);
	mock->requests[mock->nr++] = *r;
}

static void mock_remove(struct mock_domain *mock, struct mock_request *r)
{
	*r = mock->requests[--mock->nr];
}

/* Take a part out of a request, and leave what is on both sides of it. */
static void mock_cut(struct mock_domain *mock, struct mock_request *r,
		     unsigned long iova, size_t size)
{
	size_t before = iova - r->iova;
	struct mock_request rest = {
		.iova = iova + size,
		.paddr = r->paddr + before + size,
		.size = r->size - before - size,
		.pgsize = r->pgsize,
	};

	r->size = before;
	if (!before)
		mock_remove(mock, r);
	if (rest.size)
		mock_add(mock, &rest);
}

static int mock_map_pages(struct iommu_domain *domain, unsigned long iova,
			  phys_addr_t paddr, size_t pgsize, size_t pgcount,
			  int prot, gfp_t gfp, size_t *mapped)
{
	struct mock_domain *mock = to_mock(domain);
	struct kunit *test = mock->test;
	struct mock_request r = {
		.iova = iova,
		.paddr = paddr,
		.size = pgsize * pgcount,
		.pgsize = pgsize,
	};
	int ret = 0;

	/* Drivers trust their callers in all of this. */
	KUNIT_EXPECT_TRUE(test, is_power_of_2(pgsize));
	KUNIT_EXPECT_TRUE(test, domain->pgsize_bitmap & pgsize);
	KUNIT_EXPECT_TRUE(test, IS_ALIGNED(iova | paddr, pgsize));
	KUNIT_EXPECT_GT(test, pgcount, 0);
	KUNIT_EXPECT_EQ(test, r.size / pgsize, pgcount);
	KUNIT_EXPECT_NULL(test, mock_find(mock, iova, r.size));

	if (++mock->maps == mock->fail_at) {
		r.size = mock->fail_late ? pgcount / 2 * pgsize : 0;
		ret = -ENOMEM;
	}
	if (r.size)
		mock_add(mock, &r);
	*mapped += r.size;
	return ret;
}

static void mock_gather(struct mock_domain *mock,
			struct iommu_iotlb_gather *gather, unsigned long iova,
			size_t size, size_t pgsize)
{
	size_t done;

	switch (mock->gather) {
	case MOCK_GATHER_NONE:
		break;
	case MOCK_GATHER_RANGE:
		iommu_iotlb_gather_add_range(gather, iova, size);
		break;
	case MOCK_GATHER_PAGE:
		for (done = 0; done < size; done += pgsize)
			iommu_iotlb_gather_add_page(&mock->domain, gather,
						    iova + done, pgsize);
		break;
	}
}

/*
 * Entries go one after the other, until there is a hole, or one that is not
 * wholly in the range. Like a page table this does not care about the page size
 * it is called with: there can be a table where that expects an entry.
 */
static size_t mock_unmap_entries(struct iommu_domain *domain,
				 unsigned long iova, size_t pgsize,
				 size_t pgcount,
				 struct iommu_iotlb_gather *gather)
{
	struct mock_domain *mock = to_mock(domain);
	size_t size = pgsize * pgcount;
	size_t done = 0;

	mock->unmaps++;
	while (done < size) {
		unsigned long at = iova + done;
		struct mock_request *r = mock_find(mock, at, 1);
		size_t entry, part;

		if (!r || !IS_ALIGNED(at - r->iova, r->pgsize))
			break;
		entry = r->pgsize;
		part = min(size - done, r->size - (at - r->iova));
		part = ALIGN_DOWN(part, entry);
		if (!part)
			break;
		mock_cut(mock, r, at, part);
		mock_gather(mock, gather, at, part, entry);
		done += part;
	}
	return done;
}

/*
 * Requests go as a whole, the last one even if the range ends in it, as
 * virtio-iommu does it. That has to be: the range is made of the page sizes that
 * suit the IOVA, while a request can consist of smaller pages, that suited the
 * physical address as well. But nothing goes if the range begins in a request.
 */
static size_t mock_unmap_requests(struct iommu_domain *domain,
				  unsigned long iova, size_t pgsize,
				  size_t pgcount,
				  struct iommu_iotlb_gather *gather)
{
	struct mock_domain *mock = to_mock(domain);
	size_t size = pgsize * pgcount;
	struct mock_request *r;
	size_t done = 0;

	mock->unmaps++;
	r = mock_find(mock, iova, 1);
	if (!r || r->iova != iova)
		return 0;
	while ((r = mock_find(mock, iova, size))) {
		done += r->size;
		mock_gather(mock, gather, r->iova, r->size, r->pgsize);
		mock_remove(mock, r);
	}
	return done;
}

static void mock_iotlb_sync(struct iommu_domain *domain,
			    struct iommu_iotlb_gather *gather)
{
	struct mock_domain *mock = to_mock(domain);

	mock->syncs++;
	mock->sync_start = gather->start;
	mock->sync_end = gather->end;
}

static int mock_iotlb_sync_map(struct iommu_domain *domain, unsigned long iova,
			       size_t size)
{
	to_mock(domain)->map_syncs++;
	return 0;
}

static phys_addr_t mock_iova_to_phys(struct iommu_domain *domain,
				     dma_addr_t iova)
{
	struct mock_request *r = mock_find(to_mock(domain), iova, 1);

	return r ? r->paddr + (iova - r->iova) : 0;
}

static const struct iommu_domain_ops mock_entries_ops = {
	.map_pages	= mock_map_pages,
	.unmap_pages	= mock_unmap_entries,
	.iotlb_sync	= mock_iotlb_sync,
	.iotlb_sync_map	= mock_iotlb_sync_map,
	.iova_to_phys	= mock_iova_to_phys,
};

static const struct iommu_domain_ops mock_requests_ops = {
	.map_pages	= mock_map_pages,
	.unmap_pages	= mock_unmap_requests,
	.no_split_unmap = true,
	.iotlb_sync	= mock_iotlb_sync,
	.iotlb_sync_map	= mock_iotlb_sync_map,
	.iova_to_phys	= mock_iova_to_phys,
};

static struct mock_domain *mock_alloc(struct kunit *test, unsigned long pgsizes,
				      bool as_mapped)
{
	struct mock_domain *mock = kunit_kzalloc(test, sizeof(*mock), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mock);
	mock->test = test;
	mock->domain.type = __IOMMU_DOMAIN_PAGING;
	mock->domain.pgsize_bitmap = pgsizes;
	mock->domain.ops = as_mapped ? &mock_requests_ops : &mock_entries_ops;
	return mock;
}

/* Forget the calls, but not what is mapped. */
static void mock_reset(struct mock_domain *mock)
{
	mock->maps = 0;
	mock->unmaps = 0;
	mock->syncs = 0;
	mock->map_syncs = 0;
}

static size_t mock_mapped(struct mock_domain *mock)
{
	size_t mapped = 0;
	unsigned int i;

	for (i = 0; i < mock->nr; i++)
		mapped += mock->requests[i].size;
	return mapped;
}

/* ---- what is expected ---- */

/* How much of a stretch is left in the unit that an offset in it is in. */
static size_t unit_part(const struct stretch *s, size_t offset, size_t unit)
{
	size_t left = s->size - offset;

	if (unit == SIZE_MAX)
		return left;
	return min(left, unit - ((s->iova + offset) & (unit - 1)));
}

/*
 * The number of calls that a page table needs: one for each run of entries of the
 * same size, if each entry is as large as it can be.
 */
static unsigned int runs(unsigned long pgsizes, const struct stretch *s,
			 size_t unit)
{
	size_t offset, pgsize, last = 0;
	unsigned int nr = 0;

	for (offset = 0; offset < s->size; offset += pgsize) {
		unsigned long align = (s->iova + offset) | (s->paddr + offset);
		unsigned int bit;

		pgsize = 0;
		for_each_set_bit(bit, &pgsizes, BITS_PER_LONG) {
			if (BIT(bit) <= min(unit, s->size - offset) &&
			    IS_ALIGNED(align, BIT(bit)))
				pgsize = BIT(bit);
		}
		if (!pgsize)
			return 0;
		if (pgsize != last)
			nr++;
		last = pgsize;
	}
	return nr;
}

/*
 * A stretch is mapped if requests of its size are inside of it, for they do not
 * overlap: the mock has looked after that.
 */
static void check_mapped(struct mock_domain *mock, const struct stretch *s,
			 size_t unit)
{
	struct kunit *test = mock->test;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, mock_mapped(mock), s->size);
	for (i = 0; i < mock->nr; i++) {
		const struct mock_request *r = &mock->requests[i];
		size_t offset = r->iova - s->iova;

		KUNIT_ASSERT_LT(test, offset, s->size);
		KUNIT_ASSERT_LE(test, r->size, s->size - offset);
		KUNIT_ASSERT_EQ(test, r->paddr, s->paddr + offset);
		KUNIT_ASSERT_LE(test, r->pgsize, unit);
		if (mock->domain.ops->no_split_unmap)
			KUNIT_ASSERT_LE(test, r->size,
					unit_part(s, offset, unit));
	}
}

/*
 * Contiguous units share the calls for a page table. Otherwise a unit has one of
 * its own; it takes more only where the stretch begins or ends off the unit.
 */
static void check_calls(struct mock_domain *mock, const struct stretch *s,
			size_t unit)
{
	unsigned long pgsizes = mock->domain.pgsize_bitmap;
	struct kunit *test = mock->test;
	unsigned int calls = 0;
	size_t offset, part;

	if (!mock->domain.ops->no_split_unmap) {
		KUNIT_ASSERT_EQ(test, mock->maps, runs(pgsizes, s, unit));
		return;
	}
	for (offset = 0; offset < s->size; offset += part) {
		struct stretch of_unit = {
			.iova = s->iova + offset,
			.paddr = s->paddr + offset,
		};
		unsigned int nr;

		part = unit_part(s, offset, unit);
		of_unit.size = part;
		nr = runs(pgsizes, &of_unit, unit);
		if (part == unit)
			KUNIT_ASSERT_EQ(test, nr, 1);
		calls += nr;
	}
	KUNIT_ASSERT_EQ(test, mock->maps, calls);
	KUNIT_ASSERT_EQ(test, mock->nr, calls);
}

static void map_stretch(struct mock_domain *mock, const struct stretch *s,
			size_t unit)
{
	struct kunit *test = mock->test;

	mock_reset(mock);
	KUNIT_ASSERT_EQ(test, iommu_map_units(&mock->domain, s->iova, s->paddr,
					      s->size, unit, IOMMU_READ,
					      GFP_KERNEL), 0);
	/* The caller does that, once for all that it maps. */
	KUNIT_ASSERT_EQ(test, mock->map_syncs, 0);
}

/*
 * Unmap one unit. What is mapped cannot move or grow, so exactly the unit has
 * gone if nothing is left in it and the rest is as large as it should be.
 */
static void unmap_unit(struct mock_domain *mock, unsigned long iova, size_t size,
		       bool fast)
{
	struct iommu_iotlb_gather gather;
	struct kunit *test = mock->test;
	size_t mapped = mock_mapped(mock);
	size_t unmapped;

	mock_reset(mock);
	if (fast) {
		iommu_iotlb_gather_init(&gather);
		unmapped = iommu_unmap_fast(&mock->domain, iova, size, &gather);
		KUNIT_ASSERT_EQ(test, mock->syncs, 0);
		iommu_iotlb_sync(&mock->domain, &gather);
	} else {
		unmapped = iommu_unmap(&mock->domain, iova, size);
	}
	KUNIT_ASSERT_EQ(test, unmapped, size);
	KUNIT_ASSERT_NULL(test, mock_find(mock, iova, size));
	KUNIT_ASSERT_EQ(test, mock_mapped(mock), mapped - size);
	KUNIT_ASSERT_EQ(test, mock->syncs, 1);
}

/* ---- the tests ---- */

enum order {
	ORDER_UP,
	ORDER_DOWN,
	ORDER_EVEN_ODD,
	NR_ORDERS,
};

/* Map a stretch, and unmap its units alone, in some order. */
static void test_stretch(struct mock_domain *mock, const struct stretch *s,
			 size_t unit, enum order order)
{
	size_t last = unit == SIZE_MAX ? s->size : unit;
	struct kunit *test = mock->test;
	unsigned int i, units = 0;
	size_t first, offset;

	map_stretch(mock, s, unit);
	check_mapped(mock, s, unit);
	check_calls(mock, s, unit);

	first = unit_part(s, 0, unit);
	for (offset = 0; offset < s->size; offset += unit_part(s, offset, unit))
		units++;
	for (i = 0; i < units; i++) {
		unsigned int n = i;

		if (order == ORDER_DOWN)
			n = units - 1 - i;
		else if (order == ORDER_EVEN_ODD)
			n = i < (units + 1) / 2 ? 2 * i : 2 * (i - (units + 1) / 2) + 1;
		offset = n ? first + (n - 1) * last : 0;
		unmap_unit(mock, s->iova + offset, unit_part(s, offset, unit),
			   i & 1);
	}
	KUNIT_ASSERT_EQ(test, mock->nr, 0);
}

static const struct units_param *units_param(struct kunit *test)
{
	return test->param_value;
}

/* How far the ends are off a unit; what is not less than one is left out. */
static size_t units_off(unsigned int i, size_t unit)
{
	const size_t off[] = { 0, SZ_4K, 3 * SZ_4K, unit / 2, unit - SZ_4K };

	return off[i];
}

#define NR_OFF		5

/*
 * How far the physical address is off the IOVA: this lets no page size be used,
 * all up to the half of 2M, up to 64K, or only the smallest one.
 */
static const size_t units_skew[] = { 0, SZ_1M, SZ_64K, SZ_4K };

/* Units are as large as the parameter says; 2M where a stretch is one unit. */
static size_t units_step(const struct units_param *p)
{
	return p->unit == SIZE_MAX ? SZ_2M : p->unit;
}

/* Begin and end a stretch in all ways, and unmap it in all orders. */
static void units_ends(struct mock_domain *mock, const struct units_param *p,
		       size_t skew, unsigned int count)
{
	size_t step = units_step(p);
	unsigned int i, order;

	for (i = 0; i < NR_OFF * NR_OFF; i++) {
		size_t before = units_off(i / NR_OFF, step);
		size_t behind = units_off(i % NR_OFF, step);
		struct stretch s = {
			.iova = UNITS_IOVA - before,
			.paddr = UNITS_PADDR - before + skew,
			.size = before + count * step + behind,
		};

		if (before >= step || behind >= step || !s.size ||
		    !IS_ALIGNED(before | behind, SZ_4K))
			continue;
		for (order = 0; order < NR_ORDERS; order++)
			test_stretch(mock, &s, p->unit, order);
	}
}

static void iommu_units_alone(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(units_skew); i++) {
		units_ends(mock, p, units_skew[i], 0);
		units_ends(mock, p, units_skew[i], 1);
		units_ends(mock, p, units_skew[i], 5);
	}
}

/* Neither end is at the end of the unit that both are in. */
static void iommu_units_inside(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	size_t step = units_step(p);
	unsigned int skew;

	for (skew = 0; skew < ARRAY_SIZE(units_skew); skew++) {
		struct stretch s = {
			.iova = UNITS_IOVA + SZ_4K,
			.paddr = UNITS_PADDR + SZ_4K + units_skew[skew],
			.size = step - 2 * SZ_4K,
		};

		test_stretch(mock, &s, p->unit, ORDER_UP);
		s.size = SZ_4K;
		test_stretch(mock, &s, p->unit, ORDER_UP);
	}
}

/* So many units that they are together larger than the largest page size. */
static void iommu_units_many(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	size_t step = units_step(p);
	size_t off = step > SZ_4K ? SZ_4K : 0;
	unsigned int skew, order;

	for (skew = 0; skew < ARRAY_SIZE(units_skew); skew++) {
		struct stretch s = {
			.iova = UNITS_IOVA - off,
			.paddr = UNITS_PADDR - off + units_skew[skew],
			.size = off + MANY * step + off,
		};

		for (order = 0; order < NR_ORDERS; order++)
			test_stretch(mock, &s, p->unit, order);
	}
}

/* Without units all is as it was: iommu_map() does no more and no less. */
static void iommu_units_none(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	struct mock_domain *plain = mock_alloc(test, p->pgsizes, p->as_mapped);
	unsigned int skew;

	for (skew = 0; skew < ARRAY_SIZE(units_skew); skew++) {
		struct stretch s = {
			.iova = UNITS_IOVA - 5 * SZ_4K,
			.paddr = UNITS_PADDR - 5 * SZ_4K + units_skew[skew],
			.size = SZ_1G + SZ_32M + 12 * SZ_4K,
		};

		map_stretch(mock, &s, SIZE_MAX);
		mock_reset(plain);
		KUNIT_ASSERT_EQ(test, iommu_map(&plain->domain, s.iova, s.paddr,
						s.size, IOMMU_READ, GFP_KERNEL),
				0);
		KUNIT_ASSERT_EQ(test, plain->maps, mock->maps);
		KUNIT_ASSERT_EQ(test, plain->maps, runs(p->pgsizes, &s, SIZE_MAX));
		KUNIT_ASSERT_EQ(test, plain->map_syncs, 1);
		KUNIT_ASSERT_EQ(test, plain->nr, mock->nr);
		KUNIT_ASSERT_MEMEQ(test, plain->requests, mock->requests,
				   mock->nr * sizeof(mock->requests[0]));

		/* Units are not more calls for a page table that ends there. */
		if (!p->as_mapped && p->unit != SIZE_MAX) {
			unmap_unit(mock, s.iova, s.size, false);
			map_stretch(mock, &s, p->unit);
			KUNIT_ASSERT_LE(test, mock->maps, plain->maps);
		}
		unmap_unit(mock, s.iova, s.size, false);
		unmap_unit(plain, s.iova, s.size, true);
	}
}

/*
 * Whichever call fails, nothing of the stretch stays, and what was mapped next to
 * it does. A driver can fail having done a part, which it tells.
 */
static void units_error(struct mock_domain *mock, const struct units_param *p,
			size_t skew, bool late)
{
	struct kunit *test = mock->test;
	size_t step = units_step(p);
	size_t off = step > SZ_4K ? SZ_4K : 0;
	struct stretch s = {
		.iova = UNITS_IOVA - off,
		.paddr = UNITS_PADDR - off + skew,
		.size = off + 5 * step + off,
	};
	struct stretch before = {
		.iova = s.iova - SZ_4K,
		.paddr = SZ_4K,
		.size = SZ_4K,
	};
	struct stretch behind = {
		.iova = s.iova + s.size,
		.paddr = SZ_4K,
		.size = SZ_4K,
	};
	unsigned int calls, nr;

	map_stretch(mock, &s, p->unit);
	calls = mock->maps;
	unmap_unit(mock, s.iova, s.size, false);

	map_stretch(mock, &before, p->unit);
	map_stretch(mock, &behind, p->unit);
	mock->fail_late = late;
	for (nr = 1; nr <= calls; nr++) {
		int ret;

		mock_reset(mock);
		mock->fail_at = nr;
		ret = iommu_map_units(&mock->domain, s.iova, s.paddr, s.size,
				      p->unit, IOMMU_READ, GFP_KERNEL);
		mock->fail_at = 0;

		KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
		KUNIT_ASSERT_EQ(test, mock->maps, nr);
		KUNIT_ASSERT_NULL(test, mock_find(mock, s.iova, s.size));
		KUNIT_ASSERT_EQ(test, mock_mapped(mock), 2 * SZ_4K);
		/* One flush is enough, and none if nothing was mapped. */
		KUNIT_ASSERT_LE(test, mock->syncs, 1);
		if (nr == 1 && !late)
			KUNIT_ASSERT_EQ(test, mock->syncs, 0);
	}
	unmap_unit(mock, before.iova, before.size, false);
	unmap_unit(mock, behind.iova, behind.size, false);
}

static void iommu_units_error(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(units_skew); i++) {
		units_error(mock, p, units_skew[i], false);
		/* A request is made, or it is not. */
		if (!p->as_mapped)
			units_error(mock, p, units_skew[i], true);
	}
}

/* The last page of all has no address behind it. */
static void iommu_units_top(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	size_t step = units_step(p);
	struct stretch s = {
		.paddr = UNITS_PADDR - SZ_4K,
		.size = SZ_4K,
	};

	s.iova -= s.size;
	test_stretch(mock, &s, p->unit, ORDER_UP);

	s.size = 3 * step;
	s.iova = -s.size;
	s.paddr = UNITS_PADDR - s.size;
	test_stretch(mock, &s, p->unit, ORDER_UP);
}

/* What a driver could not do is not asked for. */
static void iommu_units_invalid(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	struct iommu_domain *domain = &mock->domain;
	struct stretch s = {
		.iova = UNITS_IOVA,
		.paddr = UNITS_PADDR,
		.size = SZ_4K,
	};

	KUNIT_EXPECT_EQ(test, iommu_map_units(domain, s.iova + SZ_2K, s.paddr,
					      s.size, p->unit, IOMMU_READ,
					      GFP_KERNEL), -EINVAL);
	KUNIT_EXPECT_EQ(test, iommu_map_units(domain, s.iova, s.paddr + SZ_2K,
					      s.size, p->unit, IOMMU_READ,
					      GFP_KERNEL), -EINVAL);
	KUNIT_EXPECT_EQ(test, iommu_map_units(domain, s.iova, s.paddr,
					      s.size + SZ_2K, p->unit,
					      IOMMU_READ, GFP_KERNEL), -EINVAL);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test,
				iommu_map_units(domain, s.iova, s.paddr, s.size,
						SZ_2K, IOMMU_READ, GFP_KERNEL),
				-EINVAL);
	}
	KUNIT_EXPECT_EQ(test, mock->maps, 0);
}

/* ---- flushes ---- */

#define NR_FLUSH	8

/*
 * Unmap some units of 2M, in the order of the list, with one gather, and return
 * how often that flushed. Nothing is left out by any flush: the last one ends the
 * batch, and it is for the last unit at least.
 */
static unsigned int flushes(struct mock_domain *mock, const unsigned int *list,
			    unsigned int nr)
{
	struct iommu_iotlb_gather gather;
	struct kunit *test = mock->test;
	unsigned long iova = 0;
	unsigned int i;

	mock_reset(mock);
	iommu_iotlb_gather_init(&gather);
	for (i = 0; i < nr; i++) {
		iova = UNITS_IOVA + list[i] * SZ_2M;
		KUNIT_EXPECT_EQ(test, iommu_unmap_fast(&mock->domain, iova,
						       SZ_2M, &gather), SZ_2M);
	}
	iommu_iotlb_sync(&mock->domain, &gather);
	if (mock->gather != MOCK_GATHER_NONE) {
		KUNIT_EXPECT_LE(test, mock->sync_start, iova);
		KUNIT_EXPECT_GE(test, mock->sync_end, iova + SZ_2M - 1);
	}
	return mock->syncs;
}

static void map_flush(struct mock_domain *mock, size_t skew)
{
	struct stretch s = {
		.iova = UNITS_IOVA,
		.paddr = UNITS_PADDR + skew,
		.size = NR_FLUSH * SZ_2M,
	};

	/* What the last test has left is forgotten: an unmap ends at a hole. */
	mock->nr = 0;
	map_stretch(mock, &s, SZ_2M);
}

/*
 * One flush for many units is what iommu_unmap_fast() is for. A driver that
 * gathers pages flushes before it takes one that does not adjoin those it has, or
 * is not of their size. So there is
 *
 *  - one flush if the units adjoin each other and have the same page size, and
 *    come in ascending order: each goes on where the gather ends. Descending is as
 *    good as long as a unit is one page;
 *  - one for each unit in descending order if there are several pages in it, for
 *    they ascend in the unit, and the first is not next to what is gathered;
 *  - one for each unit if there is a hole before each, or if they are adjacent but
 *    come in an order that makes holes for a while;
 *  - one more each time that the page size changes.
 *
 * Other drivers flush once whatever there was.
 */
static void units_flush(struct mock_domain *mock, size_t skew)
{
	static const unsigned int up[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	static const unsigned int down[] = { 7, 6, 5, 4, 3, 2, 1, 0 };
	static const unsigned int holes[] = { 0, 2, 4, 6 };
	static const unsigned int mixed[] = { 0, 2, 4, 6, 1, 3, 5, 7 };
	bool page = mock->gather == MOCK_GATHER_PAGE;
	struct kunit *test = mock->test;

	map_flush(mock, skew);
	KUNIT_EXPECT_EQ(test, flushes(mock, up, 8), 1);
	KUNIT_EXPECT_EQ(test, mock->nr, 0);
	if (mock->gather != MOCK_GATHER_NONE) {
		KUNIT_EXPECT_EQ(test, mock->sync_start, UNITS_IOVA);
		KUNIT_EXPECT_EQ(test, mock->sync_end,
				UNITS_IOVA + NR_FLUSH * SZ_2M - 1);
	}

	map_flush(mock, skew);
	KUNIT_EXPECT_EQ(test, flushes(mock, down, 8), page && skew ? 8 : 1);

	map_flush(mock, skew);
	KUNIT_EXPECT_EQ(test, flushes(mock, holes, 4), page ? 4 : 1);

	map_flush(mock, skew);
	KUNIT_EXPECT_EQ(test, flushes(mock, mixed, 8), page ? 8 : 1);
}

static void iommu_units_flush(struct kunit *test)
{
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(units_skew); i++) {
		mock->gather = MOCK_GATHER_NONE;
		units_flush(mock, units_skew[i]);
		mock->gather = MOCK_GATHER_RANGE;
		units_flush(mock, units_skew[i]);
		mock->gather = MOCK_GATHER_PAGE;
		units_flush(mock, units_skew[i]);
	}
}

/* Units of 2M, of which every second pair is mapped by smaller pages. */
static void iommu_units_flush_sizes(struct kunit *test)
{
	static const unsigned int up[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	const struct units_param *p = units_param(test);
	struct mock_domain *mock = mock_alloc(test, p->pgsizes, p->as_mapped);
	unsigned int i;

	for (mock->gather = MOCK_GATHER_NONE; mock->gather <= MOCK_GATHER_PAGE;
	     mock->gather++) {
		for (i = 0; i < NR_FLUSH; i += 2) {
			struct stretch s = {
				.iova = UNITS_IOVA + i * SZ_2M,
				.paddr = UNITS_PADDR + (i & 2 ? SZ_4K : 0),
				.size = 2 * SZ_2M,
			};

			map_stretch(mock, &s, SZ_2M);
		}
		KUNIT_EXPECT_EQ(test, flushes(mock, up, 8),
				mock->gather == MOCK_GATHER_PAGE ? 4 : 1);
		KUNIT_EXPECT_EQ(test, mock->nr, 0);
	}
}

/* ---- parameters ---- */

static const struct {
	const char *name;
	unsigned long pgsizes;
} units_pgsizes[] = {
	{ "4K+2M+1G", SZ_4K | SZ_2M | SZ_1G },
	{ "4K+64K+2M+32M", SZ_4K | SZ_64K | SZ_2M | SZ_32M },
	{ "all from 4K", ~0UL << 12 },
};

static const struct {
	const char *name;
	size_t unit;
} units_units[] = {
	{ "4K", SZ_4K },
	{ "64K", SZ_64K },
	{ "2M", SZ_2M },
	{ "none", SIZE_MAX },
};

#define NR_UNITS	ARRAY_SIZE(units_units)

static struct units_param units_params[2 * ARRAY_SIZE(units_pgsizes) * NR_UNITS];

static int units_init(struct kunit_suite *suite)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(units_params); i++) {
		unsigned int kind = i / NR_UNITS;
		struct units_param *p = &units_params[i];

		p->as_mapped = kind & 1;
		p->pgsizes = units_pgsizes[kind / 2].pgsizes;
		p->unit = units_units[i % NR_UNITS].unit;
		snprintf(p->name, sizeof(p->name), "pages %s, unit %s, %s",
			 units_pgsizes[kind / 2].name,
			 units_units[i % NR_UNITS].name,
			 p->as_mapped ? "requests" : "entries");
	}
	return 0;
}

static const void *units_gen_params(struct kunit *test, const void *prev,
				    char *desc)
{
	const struct units_param *p = prev;

	p = p ? p + 1 : units_params;
	if (p == units_params + ARRAY_SIZE(units_params))
		return NULL;
	strscpy(desc, p->name, KUNIT_PARAM_DESC_SIZE);
	return p;
}

/* A unit of one or two pages has none inside. */
static const void *inside_gen_params(struct kunit *test, const void *prev,
				     char *desc)
{
	const struct units_param *p = prev;

	do {
		p = units_gen_params(test, p, desc);
	} while (p && units_step(p) <= 2 * SZ_4K);
	return p;
}

/* The tests of flushes always have units of 2M. */
static const void *flush_gen_params(struct kunit *test, const void *prev,
				    char *desc)
{
	const struct units_param *p = prev;

	do {
		p = units_gen_params(test, p, desc);
	} while (p && p->unit != SZ_2M);
	return p;
}

static struct kunit_case iommu_units_cases[] = {
	KUNIT_CASE_PARAM(iommu_units_alone, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_inside, inside_gen_params),
	KUNIT_CASE_PARAM(iommu_units_many, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_none, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_error, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_top, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_invalid, units_gen_params),
	KUNIT_CASE_PARAM(iommu_units_flush, flush_gen_params),
	KUNIT_CASE_PARAM(iommu_units_flush_sizes, flush_gen_params),
	{}
};

static struct kunit_suite iommu_units_suite = {
	.name = "iommu_units",
	.suite_init = units_init,
	.test_cases = iommu_units_cases,
};

kunit_test_suite(iommu_units_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests for iommu_map_units()");
MODULE_LICENSE("GPL");
