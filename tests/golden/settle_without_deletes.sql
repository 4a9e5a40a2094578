delete from "contact"."mirror" where "externalId" in (select key from outcome where result = 'done');

insert into "contact"."mirror" ("externalId", "firstName")
select "externalId", "firstName" from "contact"."desired"
where "externalId" in (select key from outcome where result = 'done' and kind <> 'delete');

delete from "contact"."change_set" where key in (select key from outcome where result = 'done');

delete from "contact"."existing" where key in (select key from outcome where result = 'done');

create or replace temp table refused as
select o.key, o.kind, o.reason, md5(cast(d as varchar)) as fingerprint, coalesce(r.attempts, 0) + 1 as attempts,
       true as resting, coalesce(r.first_at, now() at time zone 'UTC') as first_at, now() at time zone 'UTC' as last_at
from outcome as o
left join "contact"."reject" as r on r.key = o.key
left join "contact"."desired" as d on d."externalId" = o.key
where o.result = 'refused';

delete from "contact"."reject" where key in (select key from outcome where result in ('done', 'refused'));

insert into "contact"."reject" select * from refused;

delete from "contact"."in_flight" where reserved > 0 and key in (select key from outcome where result <> 'unknown');

delete from "contact"."in_flight" where reserved = 0 and key in (select key from outcome where result in ('done', 'unknown'));

update "contact"."in_flight" set reserved = 0 where key in (select key from outcome);
