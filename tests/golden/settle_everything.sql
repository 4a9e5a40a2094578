create or replace temp table settled as
select o.key as "cusD365id",
       w."cusName" as "cusName",
       w."cusChannel" as "cusChannel",
       case when w._changed is null or list_contains(w._changed, 'cusQuantity') or o.kind = 'insert' then w."cusQuantity" else m."cusQuantity" end as "cusQuantity",
       w."cusContactId" as "cusContactId",
       now() at time zone 'UTC' as _written_at, if(o.identical, 'identical', o.kind) as _written_as
from outcome as o
join change_window as w on w._key = o.key
left join "new_purchase"."mirror" as m on m."cusD365id" = o.key
where o.result = 'done' and o.kind <> 'delete';

delete from "new_purchase"."mirror" where rowid in (
  select rowid from "new_purchase"."mirror" where _hash in (select md5_number_lower(key) from outcome where result = 'done' and key in (select _key from change_window where _kind <> 'insert'))
) and "cusD365id" in (select key from outcome where result = 'done' and key in (select _key from change_window where _kind <> 'insert'));

insert into "new_purchase"."mirror" ("cusD365id", "cusName", "cusChannel", "cusQuantity", "cusContactId", _written_at, _written_as, _hash)
select "cusD365id", "cusName", "cusChannel", "cusQuantity", "cusContactId", _written_at, _written_as, md5_number_lower("cusD365id") from settled;

insert into "new_purchase"."deleted"
select key, now() at time zone 'UTC' from outcome
where result = 'done' and kind = 'delete';

delete from "new_purchase"."change_set" where key in (select key from outcome where result = 'done');

delete from "new_purchase"."existing" where "cusD365id" in (select key from outcome where result = 'done');

delete from "new_purchase"."replay" where key in (select key from outcome where result = 'done');

delete from "new_purchase"."reject" where key in (select key from outcome where result = 'done');

delete from "new_purchase"."in_flight" where reserved > 0 and key in (select key from outcome where result <> 'unknown');

delete from "new_purchase"."in_flight" where reserved = 0 and key in (select key from outcome where result in ('done', 'unknown'));

update "new_purchase"."in_flight" set reserved = 0 where key in (select key from outcome);

delete from change_window where _key in (select key from outcome);
