with next as (
  select key, kind, changed
  from "contact"."change_set"
  where key > $after and key not in (select key from "contact"."reject" where resting)
  order by key
  limit $limit
)
select n.key, n.kind, n.changed, d."firstName", d."email", d."birthDate", d."location.city", d."cusChildren", d."cusCredit", d."cusFlag", d."lastContact"
from next as n
left join "contact"."desired" as d on d."externalId" = n.key
order by n.key;
