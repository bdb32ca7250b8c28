package habit_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/purge"
)

// Magento 2: magento/magento2, app/code/Magento/CacheInvalidate/Observer/
// InvalidateVarnishObserver.php and FlushAllCacheObserver.php; the rules are in
// app/code/Magento/PageCache/etc/varnish7.vcl: obj.http.X-Magento-Tags ~ the pattern.
func TestMagento(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE / HTTP/1.1", "Host: 127.0.0.1:6081", "X-Magento-Tags-Pattern: ((^|,)cat_p_12(,|$))"),
			want: tags("cat_p_12"),
		},
		{ // many, and one of them twice
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: ((^|,)cat_p_1(,|$))|((^|,)cat_p_2(,|$))|((^|,)cat_c_p_3(,|$))|((^|,)FPC(,|$))|((^|,)cat_p_1(,|$))"),
			want: tags("FPC", "cat_c_p_3", "cat_p_1", "cat_p_2"),
		},
		{ // Flush Magento Cache
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: .*"),
			want: everything,
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: cms_p_1|cms_b"),
			want: tags("cms_b", "cms_p_1"),
		},
		{ // davidalger/capistrano-magento2
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Pool: blue"),
			why:  "X-Pool is not supported",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: *"),
			why:  "missing argument to repetition operator",
		},
	})
}

// Magento 2 with soft purges: elgentos/magento2-varnish-extended, Model/PurgeCache.php, and
// etc/varnish7.vcl.
func TestMagentoSoftly(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: ((^|,)cat_p_12(,|$))", "X-Magento-Purge-Soft: 1"),
			want: tags("cat_p_12"), mode: refresh,
		},
		{
			sent: sent("PURGE /a HTTP/1.1", "Host: example.com"), // no pattern: the URL
			want: one(url("//example.com/a")),
		},
	})
}

// As many tags as a server takes in one field, and one more than a purge may name.
func TestMagentoManyTags(t *testing.T) {
	for _, many := range []int{purge.MaxSelectors, purge.MaxSelectors + 1} {
		var pattern []string
		for i := range many {
			pattern = append(pattern, fmt.Sprintf("((^|,)cat_p_%d(,|$))", i))
		}
		o, err := order(t, "PURGE / HTTP/1.1", "Host: varnish", "X-Magento-Tags-Pattern: "+strings.Join(pattern, "|"))
		if many > purge.MaxSelectors {
			if err == nil || !strings.Contains(err.Error(), "at most 1000") {
				t.Errorf("%d tags: %v", many, err)
			}
		} else if err != nil || len(o.Selectors) != many {
			t.Errorf("%d tags: %d, %v", many, len(o.Selectors), err)
		}
	}
}
