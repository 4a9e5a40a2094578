create or replace temp table refused as
select o.key, o.kind, case o.result when 'deferred' then 'hidden' else 'refused' end as cause,
       o.reason, o.fields, md5(cast(d as varchar)) as fingerprint, coalesce(r.attempts, 0) + 1 as attempts,
       o.result = 'deferred' or coalesce(r.attempts, 0) + 1 >= $max_attempts as resting,
       case o.result when 'deferred' then now() at time zone 'UTC' + to_minutes(least(1440, 1 << least(coalesce(r.attempts, 0) + 1, 11)))
       end as retry_at,
       coalesce(r.first_at, now() at time zone 'UTC') as first_at, now() at time zone 'UTC' as last_at
from outcome as o
left join "new_purchase"."reject" as r on r.key = o.key
left join "new_purchase"."desired" as d on d."cusD365id" = o.key
where o.result in ('refused', 'deferred');

delete from "new_purchase"."reject" where key in (select key from outcome where result in ('refused', 'deferred'));

insert into "new_purchase"."reject" select * from refused;
